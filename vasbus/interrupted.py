"""A process of a system that is asked to end before it has begun, or when it has ended its work.

Imports nothing that takes time: until a handler is there, a signal ends the process with the signal's own number.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

NOT_BEGUN, AT_ONCE = 32, 30
"""ExitCode.INTERRUPTED and STOPPED_AT_ONCE; their table is not loaded yet."""


def end_at_signals() -> None:
    """Let SIGTERM and SIGINT end this process with an exit code and one line, until its work has its own handlers.

    Nothing has to be undone: what is stored is whole at any instant, and the next process removes stale sockets.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    alarm = sys.modules.get("protocol.alarm")
    if alarm is not None and getattr(alarm, "Alarm", None) is not None and alarm.Alarm.has_caught:
        os._exit(AT_ONCE)
    os.write(2, b"vasbus: asked to stop before it was running\n")
    os._exit(NOT_BEGUN)
