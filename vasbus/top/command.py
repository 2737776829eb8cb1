"""`vasbus top`: the system live, until q."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer
from rich.console import Console as Terminal
from rich.live import Live

from vasbus.target import DEFAULT_DIR, AsJson, Dir, Hmc
from vasbus.top.document import document
from vasbus.top.feed import Feed
from vasbus.top.keys import Keys
from vasbus.top.view import frame

REFRESH_S = 0.25
PRINTED_WIDTH, LEAST_WIDTH = 120, 60
"""Of a frame that does not go to a terminal, unless COLUMNS says otherwise."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(
    once: Annotated[bool, typer.Option("--once", help="Watch for one interval, print what is there, and end.")] = False,
    interval: Annotated[
        float, typer.Option("-i", "--interval", min=0.1, max=3600.0, help="Seconds between looks at the kernels.")
    ] = 1.0,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    as_json: AsJson = False,
) -> None:
    """A live view of partitions, credits, NX units and hcalls; q ends it. With --json one document per line."""
    with Feed(folder, hmc, interval) as feed:
        if as_json:
            _documents(feed, interval, once=once)
        elif once or not sys.stdout.isatty():
            _print_once(feed, interval)
        else:
            _live(feed)


def _documents(feed: Feed, interval: float, *, once: bool) -> None:
    with Keys() as keys:
        while keys.wait(interval) not in ("q", "Q"):
            sys.stdout.write(json.dumps(feed.look(document)) + "\n")
            sys.stdout.flush()
            if once:
                return


def _print_once(feed: Feed, interval: float) -> None:
    with Keys() as keys:
        keys.wait(interval)
    wanted = os.environ.get("COLUMNS", "")
    printed_width = int(wanted) if wanted.isdecimal() else PRINTED_WIDTH
    terminal = Terminal(width=None if sys.stdout.isatty() else max(printed_width, LEAST_WIDTH))
    terminal.print(feed.look(lambda model, now_us: frame(model, now_us, terminal.width)))


def _live(feed: Feed) -> None:
    terminal = Terminal()
    with Keys() as keys, Live(console=terminal, screen=True, auto_refresh=False) as live:
        while True:
            width, height = terminal.size
            live.update(
                feed.look(lambda model, now_us: frame(model, now_us, width, height)),  # noqa: B023
                refresh=True,
            )
            if keys.wait(REFRESH_S) in ("q", "Q"):
                return
