"""A connection that broke and may be made again under its routing id. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.effects import Peer

LIBZMQS_OWN = b"\0"
"""What the routing ids begin with that libzmq makes up for those who choose none, a new one for each connection."""


def can_be_found(peer: Peer) -> bool:
    """Whether a connection may be made again under its routing id."""
    return not peer.startswith(LIBZMQS_OWN)


@dataclass(slots=True)
class LostConnection:
    """Where a session that lives with its connection was, and when it is looked for there next.

    ZeroMQ makes a broken connection again by itself, under the routing id that the dialling socket has chosen; its
    program need not do anything for that, and an idle one does not. So a probe is sent there once in a while: one
    that does not come back as unreachable has found the connection. One that had chosen no routing id comes back under
    another one and is not looked for (`can_be_found`).
    """

    peer: Peer
    due_us: int
    tried_us: int | None = None

    def try_again(self, now_us: int, every_us: int) -> bool:
        """Whether a probe is due; it counts as sent now."""
        if self.tried_us is not None or now_us < self.due_us:
            return False
        self.tried_us, self.due_us = now_us, now_us + every_us
        return True

    def missed(self) -> None:
        """The last probe found nobody."""
        self.tried_us = None

    def is_back(self, now_us: int) -> bool:
        """Whether a probe was sent, and a turn of the loop has passed without its having missed."""
        return self.tried_us is not None and now_us > self.tried_us

    def wake_us(self) -> int:
        """When there is something to do or to know."""
        return self.due_us if self.tried_us is None else self.tried_us + 1
