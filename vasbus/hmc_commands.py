"""`vasbus hmc`: what an administrator does at the management console."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hmc.connection import CHANGE_WAIT_S
from protocol.console_messages import ConfigurationApplied
from vasbus.exec.program import OnConsole, command_line, execute, help_text
from vasbus.exec.programs import ON_CONSOLE
from vasbus.output import out, print_json
from vasbus.target import DEFAULT_DIR, AsJson, Dir, Hmc, console
from vasbus.words import counted

app = typer.Typer(help="Management console: processors, QoS credits and migration of partitions.", no_args_is_help=True)

Lpar = Annotated[str, typer.Argument(metavar="LPAR", help="A partition.")]
Wait = Annotated[float, typer.Option("-w", "--wait", min=0.0, help="Seconds to wait for the partition.")]


@app.command()
def dlpar(
    name: Lpar,
    cores: Annotated[int, typer.Option("--cores", help="Cores to add (+1) or remove (-2).")],
    wait: Wait = CHANGE_WAIT_S,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    as_json: AsJson = False,
) -> None:
    """Add or remove dedicated cores; returns when the partition has reconfigured."""
    with console(folder, hmc) as connection:
        _report(connection.change_processors(name, cores, wait), "default", as_json=as_json)


@app.command()
def entitlement(
    name: Lpar,
    hundredths: Annotated[int, typer.Argument(help="Entitled capacity in hundredths of a processor.")],
    wait: Wait = CHANGE_WAIT_S,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    as_json: AsJson = False,
) -> None:
    """Set the entitled capacity of a shared-processor partition."""
    with console(folder, hmc) as connection:
        _report(connection.set_entitlement(name, hundredths, wait), "default", as_json=as_json)


@app.command()
def qos(
    name: Lpar,
    credits: Annotated[int, typer.Argument(help="QoS credits, absolute.")],
    wait: Wait = CHANGE_WAIT_S,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    as_json: AsJson = False,
) -> None:
    """Set a partition's QoS credits; the partition's kernel is told first and may refuse."""
    with console(folder, hmc) as connection:
        _report(connection.set_qos_credits(name, credits, wait), "QoS", as_json=as_json)


@app.command()
def migrate(
    name: Lpar,
    hold: Annotated[float, typer.Option("--hold", min=0.0, help="Seconds to keep the windows closed.")] = 0.0,
    wait: Wait = CHANGE_WAIT_S,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    as_json: AsJson = False,
) -> None:
    """Migrate a partition: it closes every window, is moved, and reopens them; returns when it has."""
    with console(folder, hmc) as connection:
        _report(connection.migrate(name, hold, wait), "migrated, default", as_json=as_json)


@app.command()
def hold(
    name: Lpar,
    off: Annotated[bool, typer.Option("--off", help="Let the changes through again.")] = False,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    as_json: AsJson = False,
) -> None:
    """Test aid: keep configuration changes from reaching a partition's kernel."""
    with console(folder, hmc) as connection:
        held = connection.hold_notifications(name, not off)
    if as_json:
        print_json({"lpar": name, "held": held})
    else:
        out.print(f"{name}: changes are {'held back' if held else 'let through'}")


@app.command(
    name="exec", help=help_text("on the console", ON_CONSOLE), context_settings={"allow_interspersed_args": False}
)
def execute_(
    words: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="A command and its options.")],
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
) -> None:
    line = command_line(words)
    with console(folder, hmc) as connection:
        code = execute(ON_CONSOLE, OnConsole(connection, sys.stdout, sys.stderr), line)
    raise typer.Exit(code)


def _report(applied: ConfigurationApplied, kind: str, *, as_json: bool) -> None:
    if as_json:
        print_json(applied.model_dump(mode="json", exclude={"type"}))
        return
    out.print(
        f"{applied.lpar}: {kind} credits {applied.total_before} -> {applied.total_after} "
        f"(generation {applied.generation})",
        highlight=False,
    )
    if not applied.running:
        out.print("the partition is not running: this holds from its next start")
    for what, windows in (("closed", applied.closed), ("reopened", applied.reopened)):
        if windows:
            out.print(f"{what} {counted(len(windows), 'window')}: {' '.join(map(str, windows))}", highlight=False)
    out.print(f"took {applied.elapsed_us / 1000:.1f} ms", highlight=False)
