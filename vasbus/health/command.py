"""`vasbus health` among the other commands, so that it is listed, and takes `vasbus --keys`."""

from __future__ import annotations

from typing import Annotated

import typer

from vasbus.health.main import main

Words = Annotated[list[str] | None, typer.Argument(metavar="ROLE [ENDPOINT]", help="See `vasbus health --help`.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    settings = {"ignore_unknown_options": True, "help_option_names": list[str]()}
    app.command(context_settings=settings)(health)


def health(words: Words = None) -> None:
    """Whether a process is healthy, by one round trip: for the health checks of containers."""
    raise typer.Exit(main(words or []))
