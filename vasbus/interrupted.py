"""A process that is asked to end before it has begun, or when it has ended its work.

Imports nothing that takes time: until a handler is there, a signal ends the process with the signal's own number.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

NOT_BEGUN, AT_ONCE = 32, 30
"""ExitCode.INTERRUPTED and STOPPED_AT_ONCE; their table is not loaded yet."""
INTERRUPTED = 128 + signal.SIGINT
"""How a command ends at Ctrl-C, by the shell's rule."""


def end_at_signals() -> None:
    """Let SIGTERM and SIGINT end this process with an exit code and one line, until its work has its own handlers.

    Nothing has to be undone: what is stored is whole at any instant, and the next process removes stale sockets.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def end_command_at_signals(words: Sequence[str]) -> None:
    """Let Ctrl-C end the command of these words without a traceback while its modules are loaded.

    `up` promises what it does at SIGTERM and Ctrl-C before all is running: it has started nothing yet. A Ctrl-C that
    is ignored, as in a shell's background jobs, stays so.
    """
    numbers = (signal.SIGTERM, signal.SIGINT) if _is_up(words) else (signal.SIGINT,)
    end = _end_up if _is_up(words) else _end_silently
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)


def interrupt_from_here_on() -> None:
    """The command begins: Ctrl-C is KeyboardInterrupt, for blocks that tidy up. `up` has handlers of its own."""
    if signal.getsignal(signal.SIGINT) is _end_silently:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_silently_from_here_on() -> None:
    """The command is over: what Python does at its end is not interrupted half-way."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end_silently)


def _is_up(words: Sequence[str]) -> bool:
    """Whether the first word beside `--keys PATH` is `up`."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        del rest[: 2 if rest[0] == "--keys" else 1]
    return rest[:1] == ["up"]


def _has_begun() -> bool:
    """Whether this process has had handlers of its own."""
    alarm = sys.modules.get("protocol.alarm")
    return alarm is not None and getattr(alarm, "Alarm", None) is not None and bool(alarm.Alarm.has_caught)


def _end(_number: int, _frame: FrameType | None) -> None:
    if _has_begun():
        os._exit(AT_ONCE)
    os.write(2, b"vasbus: asked to stop before it was running\n")
    os._exit(NOT_BEGUN)


def _end_up(number: int, _frame: FrameType | None) -> None:
    if _has_begun():
        os._exit(128 + number)
    os.write(2, b"vasbus: asked to stop before anything was started\n")
    os._exit(NOT_BEGUN)


def _end_silently(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
