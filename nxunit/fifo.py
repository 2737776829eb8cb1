"""The receive FIFOs: high priority for QoS windows, normal for default windows. Pure.

What waits in them is bounded by twice the depth times the largest frame of the paste link (4 MiB): 64 MiB at the
usual depth of 8.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol.codes import CreditType
from protocol.effects import Peer
from protocol.paste_messages import Crb

if TYPE_CHECKING:
    from nxunit.context import Context


@dataclass(slots=True, eq=False)
class AcceptedPaste:
    """A paste that is queued or running. `peer` is where its completion goes: a repeat may move it.

    `recomputes`: it is the repeat of a request that had completed, whose answer was lost. It holds no window credit
    and is not counted again.
    """

    context: Context
    number: int
    peer: Peer
    crb: Crb
    frame: bytes
    recomputes: bool = False


@dataclass(slots=True)
class ReceiveFifos:
    """Two FIFOs of `depth` requests each. A slot is free again when the engine pulls its request."""

    depth: int
    high: deque[AcceptedPaste] = field(default_factory=deque)
    normal: deque[AcceptedPaste] = field(default_factory=deque)

    def __bool__(self) -> bool:
        return bool(self.high or self.normal)

    def push(self, paste: AcceptedPaste) -> bool:
        """Queue a paste by its window's type. False: no slot, nothing was queued."""
        fifo = self.high if paste.context.credit_type is CreditType.QOS else self.normal
        if len(fifo) >= self.depth:
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
