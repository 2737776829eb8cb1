"""The `vasbus` command. Exit codes are those of protocol.codes.ExitCode, on every subcommand."""

from __future__ import annotations

from typing import Annotated

import typer

import vasbus
from protocol.codes import ExitCode
from vasbus import (
    cluster_commands,
    demo_command,
    endpoint_command,
    fsck_command,
    gzip_command,
    hmc_commands,
    keys_command,
    lpar_commands,
    metrics_command,
    schema_command,
    serve_commands,
)
from vasbus.endings import run
from vasbus.health import command as health_command
from vasbus.target import KeyPath, use_keys
from vasbus.top import command as top_command

EXIT_CODES = "Exit codes: " + "; ".join(f"{int(code)} {code.meaning}" for code in ExitCode) + "."

app = typer.Typer(
    name="vasbus",
    help="PowerVM accelerator credits (VAS windows, NX gzip) as real processes on a message bus.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cluster_commands.register(app)
endpoint_command.register(app)
metrics_command.register(app)
demo_command.register(app)
gzip_command.register(app)
top_command.register(app)
health_command.register(app)
schema_command.register(app)
fsck_command.register(app)
app.add_typer(serve_commands.app, name="serve")
app.add_typer(hmc_commands.app, name="hmc")
app.add_typer(keys_command.app, name="keys")
app.add_typer(lpar_commands.app, name="lpar")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vasbus {vasbus.__version__}")
        raise typer.Exit


ShowVersion = Annotated[
    bool, typer.Option("--version", help="Print the release and end.", callback=_show_version, is_eager=True)
]


@app.callback()
def keys_of_all_commands(keys: KeyPath = None, _version: ShowVersion = False) -> None:
    use_keys(keys)


def main() -> None:
    """Run the command."""
    run(app)
