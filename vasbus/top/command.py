"""`vasbus top`: the system live, until q."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console as Terminal
from rich.live import Live

from protocol.message import LOCAL_NETWORK
from vasbus.target import DEFAULT_DIR, AsJson, Dir, Hmc, Network
from vasbus.top.document import document
from vasbus.top.feed import Feed
from vasbus.top.keys import Keys
from vasbus.top.view import frame

REFRESH_S = 0.25
PRINTED_WIDTH, LEAST_WIDTH = 120, 60
"""Of a frame that does not go to a terminal, unless COLUMNS says otherwise."""


class _Ended(BaseException):
    """A signal asks for the end; what is between it and the terminal's restoring is left."""


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
    network: Network = LOCAL_NETWORK,
    as_json: AsJson = False,
) -> None:
    """A live view of partitions, credits, NX units and hcalls; q ends it. With --json one document per line."""
    with _ending_at_signals(), Feed(folder, hmc, interval, network) as feed:
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


@contextmanager
def _ending_at_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP leave the block in order, which restores the terminal, and end with 128 + their number.

    The first one counts. Where the terminal is gone, restoring it fails, and that changes nothing.
    """
    came: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if len(came) == 1:
            raise _Ended

    heard = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    except BaseException:
        if not came:
            raise
        _let_go_of_a_dead_terminal()
        raise typer.Exit(128 + came[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _let_go_of_a_dead_terminal() -> None:
    """What it did not take is not tried again at the end of the process, which would be another exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
