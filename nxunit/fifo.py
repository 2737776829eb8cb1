"""The receive FIFOs: high priority for QoS windows, normal for default windows. Pure.

Default credits may be over-committed: the normal FIFO has `depth` slots, and whoever finds them taken is refused. QoS
is guaranteed: the high FIFO has a slot for every window credit of every QoS window, so that a QoS paste with its window
credit is never refused for a full FIFO, and one for a repeat of each window's last request, which needs no credit and
must not take another window's slot.

What waits is bounded by the slots times the largest frame of the paste link (4 MiB): at the usual depth of 8 that is
32 MiB of normal priority, and 8 MiB of high priority for each QoS window beyond four, so 1 GiB where all of the usual
128 QoS credits of a system are open on one unit. Requests at the usual limit of 1 MiB take a quarter of that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from protocol.codes import CreditType
from protocol.effects import Peer
from protocol.paste_messages import Crb

if TYPE_CHECKING:
    from nxunit.context import Context, ContextTable


class Priority(StrEnum):
    """The two receive FIFOs."""

    HIGH = "high"
    NORMAL = "normal"


@dataclass(slots=True, eq=False)
class AcceptedPaste:
    """A paste that is queued or running. `peer` is where its completion goes: a repeat may move it.

    `recomputes`: it is the repeat of a request that had completed, whose answer was lost. It holds no window credit
    and is not counted again. `since_us` is when it was accepted, and from then on when the engine took it.
    """

    context: Context
    number: int
    peer: Peer
    crb: Crb
    frame: bytes
    recomputes: bool
    priority: Priority
    since_us: int


def priority_of(context: Context) -> Priority:
    """The FIFO of a window's requests."""
    return Priority.HIGH if context.credit_type is CreditType.QOS else Priority.NORMAL


@dataclass(slots=True)
class ReceiveFifos:
    """Two FIFOs: `depth` normal requests, and at least as many of high priority. A slot is free again when the engine
    pulls its request.
    """

    depth: int
    contexts: ContextTable
    high: deque[AcceptedPaste] = field(default_factory=deque)
    normal: deque[AcceptedPaste] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return bool(self.high or self.normal)

    def queue(self, priority: Priority) -> deque[AcceptedPaste]:
        return self.high if priority is Priority.HIGH else self.normal

    def slots(self, priority: Priority) -> int:
        """How many requests a FIFO takes at the moment."""
        return max(self.depth, self.contexts.guaranteed_slots) if priority is Priority.HIGH else self.depth

    def push(self, paste: AcceptedPaste) -> bool:
        """Queue a paste by its priority. False: no slot, nothing was queued."""
        fifo = self.queue(paste.priority)
        if len(fifo) >= self.slots(paste.priority):
            return False
        fifo.append(paste)
        return True

    def pull(self) -> AcceptedPaste | None:
        """The next request; high priority goes first."""
        for fifo in (self.high, self.normal):
            if fifo:
                return fifo.popleft()
        return None

    def clear(self) -> int:
        """Drop everything; returns how many requests that were."""
        dropped = len(self.high) + len(self.normal)
        self.high.clear()
        self.normal.clear()
        return dropped
