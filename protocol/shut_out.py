"""When a process that no listener lets in gives up. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.clock import SECOND_US
from protocol.codes import ExitCode
from protocol.effects import Exit

BROKEN_OFF_US = 30 * SECOND_US
"""For how long all handshakes of a process that has never been let in may be broken off.

A forwarder does that while the listener behind it starts or restarts, which takes seconds. What goes on for longer is a
listener that has another key than the one expected, and it cannot say so: without the right key nobody can read it.
"""
GAP_US = 10 * SECOND_US
"""Reports further apart do not count together: in between there was no handshake that could be broken off."""


@dataclass(slots=True)
class ShutOut:
    """What became of the handshakes of a process that has never been let in; `ending` says that it is to end."""

    ending: Exit | None = None
    _since_us: int = 0
    _heard_us: int | None = None

    def hear(self, why: str, now_us: int, *, definite: bool) -> None:
        """No connection came about. `definite`: the listener has said so; else the handshakes were broken off."""
        if self._heard_us is None or now_us - self._heard_us > GAP_US:
            self._since_us = now_us
        self._heard_us = now_us
        if definite:
            self.ending = Exit(ExitCode.REFUSED, why)
        elif now_us - self._since_us >= BROKEN_OFF_US:
            self.ending = Exit(ExitCode.REFUSED, f"for {BROKEN_OFF_US // SECOND_US} s {why}")
