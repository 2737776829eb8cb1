"""`vasbus serve`: one process of a system in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import hypervisor.serve
import lpar.serve
import nxunit.serve
from deploy.cluster import ClusterError
from protocol.codes import ExitCode
from protocol.effects import Exit
from protocol.logs import configure_logs
from protocol.system import Addresses, SettingsError, SystemSettings, local_addresses, parse_system
from vasbus.output import errors

app = typer.Typer(help="Run one process of a system in the foreground.", no_args_is_help=True)

SystemPath = Annotated[Path, typer.Option("--system", "-f", help="The system file.")]
Runtime = Annotated[Path, typer.Option("--runtime", help="Folder of the sockets; its path must be short.")]
LedgerPath = Annotated[Path, typer.Option("--ledger", help="The ledger's SQLite file.")]
Name = Annotated[str, typer.Argument(help="A name from the system file.")]


@app.command("hypervisor")
def serve_hypervisor(system: SystemPath, runtime: Runtime, ledger: LedgerPath) -> None:
    """The hypervisor: credits, windows, the ledger."""
    settings, addresses = _prepare("hypervisor", "hypervisor", system, runtime)
    _end(hypervisor.serve.serve(settings, addresses, ledger))


@app.command("lpar")
def serve_lpar(name: Name, system: SystemPath, runtime: Runtime) -> None:
    """One partition's kernel."""
    settings, addresses = _prepare("lpar", name, system, runtime)
    _known(name, addresses.device, "partition")
    _end(lpar.serve.serve(settings, addresses, name))


@app.command("nxunit")
def serve_nxunit(name: Name, system: SystemPath, runtime: Runtime) -> None:
    """One chip's NX unit."""
    settings, addresses = _prepare("nxunit", name, system, runtime)
    _known(name, addresses.paste, "NX unit")
    _end(nxunit.serve.serve(settings, addresses, name))


def _prepare(role: str, name: str, system: Path, runtime: Path) -> tuple[SystemSettings, Addresses]:
    try:
        text = system.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the system file {system}: {error}") from None
    settings = parse_system(text, str(system))
    runtime.mkdir(parents=True, exist_ok=True)
    configure_logs(system=settings.name, role=role, name=name)
    return settings, local_addresses(settings, str(runtime))


def _known(name: str, names: dict[str, str], what: str) -> None:
    if name not in names:
        raise ClusterError(f"the system has no {what} {name!r}; it has {', '.join(sorted(names))}")


def _end(ending: Exit) -> None:
    if ending.code is not ExitCode.OK:
        errors.print(f"vasbus: {ending.reason}", style="red", highlight=False, markup=False)
    raise typer.Exit(int(ending.code))
