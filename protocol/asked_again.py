"""Requests that were answered by something that is no answer to them, until they are asked anew. Pure.

The session has settled their numbers, so that nothing repeats them. To ask anew at once would turn with the speed of
the wire where the other end answers wrongly again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from protocol.clock import SECOND_US
from protocol.message import Message, Request

AGAIN_US = 1 * SECOND_US


@dataclass(slots=True)
class AskedAgain:
    """In the order in which they are due. There is a request at most for each that the session had under way."""

    _waiting: deque[tuple[int, Request]] = field(default_factory=deque)

    def put_off(self, request: Request, now_us: int) -> None:
        """Ask this again AGAIN_US from now."""
        self._waiting.append((now_us + AGAIN_US, request))

    def due(self, now_us: int) -> list[Request]:
        """Those to be asked now; they are forgotten here."""
        ready: list[Request] = []
        while self._waiting and self._waiting[0][0] <= now_us:
            ready.append(self._waiting.popleft()[1])
        return ready

    def wake_us(self) -> int | None:
        return self._waiting[0][0] if self._waiting else None

    def clear(self) -> None:
        """The session is over, and with it everything that it was asked."""
        self._waiting.clear()


def named_otherwise(request: Message, reply: Message) -> str:
    """What both name, and not alike: `window_id 7, asked for 8`; empty where there is nothing of the kind."""
    common = [name for name in type(reply).model_fields if name != "type" and name in type(request).model_fields]
    differing = [name for name in common if getattr(request, name) != getattr(reply, name)]
    return ", ".join(f"{name} {getattr(reply, name)}, asked for {getattr(request, name)}" for name in differing)
