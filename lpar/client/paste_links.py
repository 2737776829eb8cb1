"""The connections to NX units: made when a paste needs one, left when idle too long or silent. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protocol.effects import Dial, Effects, Hangup

if TYPE_CHECKING:
    from lpar.client.pastes import PendingPaste

LINKS_LIMIT = 64
UNANSWERED_LIMIT = 4
"""Pastes on one connection without any answer; more would overflow its queue, which drops what it cannot hold."""


@dataclass(slots=True, eq=False)
class PasteLink:
    """One connection to an NX unit."""

    key: str
    endpoint: str
    unit: str
    dialled_us: int
    heard_us: int = 0
    used_us: int = 0
    unanswered: set[int] = field(default_factory=set)
    queue: deque[PendingPaste] = field(default_factory=deque)

    @property
    def has_room(self) -> bool:
        """Whether another paste may be sent."""
        return len(self.unanswered) < UNANSWERED_LIMIT


class PasteLinks:
    """All of them, by key."""

    def __init__(self, effects: Effects) -> None:
        self.effects = effects
        self.by_key: dict[str, PasteLink] = {}

    def used(self, key: str, endpoint: str, unit: str, now_us: int) -> PasteLink:
        """The connection with this key, dialled if there is none."""
        link = self.by_key.get(key)
        if link is None:
            if len(self.by_key) >= LINKS_LIMIT:
                self._hang_up_idlest()
            link = self.by_key[key] = PasteLink(key, endpoint, unit, now_us)
            self.dial(link, now_us)
        link.used_us = now_us
        return link

    def dial(self, link: PasteLink, now_us: int) -> None:
        """Make a new connection in place of the old one."""
        link.dialled_us = now_us
        self.effects.transmissions.append(Dial(link.key, link.endpoint, link.unit))

    def close(self) -> None:
        """Hang up everywhere."""
        for key in self.by_key:
            self.effects.transmissions.append(Hangup(key))
        self.by_key.clear()

    def _hang_up_idlest(self) -> None:
        """Make room for another connection; what waits on this one is repeated on a new one."""
        idlest = min(self.by_key.values(), key=lambda link: (bool(link.unanswered or link.queue), link.used_us))
        del self.by_key[idlest.key]
        self.effects.transmissions.append(Hangup(idlest.key))
