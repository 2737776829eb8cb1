"""Those who look on while a simulated system runs: at every step of every process, and at what leaves it.

The steps are those of the node loop (protocol/node.py): an input, the core's tick, the commit, each send, and the
role's own work. A watcher is told of a step before it takes effect, and may kill the process there.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from protocol.effects import Send

if TYPE_CHECKING:
    from tests.system.system import Host, System


class StepKind(StrEnum):
    """What is about to happen. SENT: everything of the turn has been sent, and the turn goes on to its work."""

    START = "start"
    INPUT = "input"
    TICK = "tick"
    COMMIT = "commit"
    SEND = "send"
    SENT = "sent"
    WORK = "work"
    OUTCOME = "outcome"


class Killed(Exception):
    """The process was killed at a step: nothing of it from there on happens."""


class Watcher:
    """Looks on at `system`, which sets that; a watcher overrides what it wants to be told."""

    system: System

    def step(self, host: Host, kind: StepKind, message: str) -> None:
        """A step of this process is about to take effect. `message` is the type of what is taken in or sent."""

    def stored(self, writes: Sequence[object]) -> None:
        """The hypervisor has committed these."""

    def sent(self, host: Host, send: Send, other: str) -> None:
        """A process sends a message to the process called `other`, or to nobody (any more) where that is empty."""
