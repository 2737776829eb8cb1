"""Suspended decompressions that the unit keeps for its windows: bounded, expiring, each bound to its window. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from dataclasses import dataclass

from nxunit.job import Suspended
from protocol.clock import SECOND_US

RESUME_LIMIT = 64
"""Suspended decompressions per unit; one takes about 64 KiB, of a decompression by blocks twice that."""
RESUME_LIFE_US = 60 * SECOND_US
TOKEN_BYTES = 16

WindowKey = tuple[int, bytes]
"""A window id with its token: a later window of the same id is another window."""


@dataclass(slots=True)
class Kept:
    """One suspended decompression. `parent` is the token it was itself resumed from.

    `holds` counts the faulted requests that are to be sent again from it: meanwhile it does not expire.
    """

    window: WindowKey
    state: Suspended
    parent: bytes
    used_us: int
    holds: int = 0


class SuspendedJobs:
    """States by resume token, least recently used first.

    A token is a keyed hash of the window, the request's number and how far it got: unguessable, and the same when a
    repeated request is computed again. A state stays until the request after the next, because the next one may
    have to be repeated from it.
    """

    def __init__(self, secret: bytes, limit: int = RESUME_LIMIT, life_us: int = RESUME_LIFE_US) -> None:
        self.limit = limit
        self.life_us = life_us
        self._secret = secret
        self._kept: dict[bytes, Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(
        self, window: WindowKey, number: int, parent: bytes, progress: tuple[int, ...], state: Suspended, now_us: int
    ) -> bytes:
        """Keep a state and return its token. `progress` tells results of different content apart.

        At the limit the window that holds most loses its least recently used one.
        """
        facts = (window[0], number, *progress)
        text = ",".join(map(str, facts)).encode() + b"," + window[1] + parent
        token = hmac.digest(self._secret, text, hashlib.sha256)[:TOKEN_BYTES]
        self._kept.pop(token, None)
        self._expire(now_us)
        while len(self._kept) >= self.limit:
            self._evict()
        self._kept[token] = Kept(window, state, parent, now_us)
        return token

    def find(self, window: WindowKey, token: bytes, now_us: int) -> Suspended | None:
        """The state behind a token of this window; None where it is unknown, expired or another window's.

        Whoever resumes from a state has taken the answer that it came with: the state before it is not needed again.
        """
        self._expire(now_us)
        kept = self._kept.get(token)
        if kept is None or kept.window != window:
            return None
        kept.used_us = now_us
        self._kept[token] = self._kept.pop(token)
        self._kept.pop(kept.parent, None)
        return kept.state

    def hold(self, window: WindowKey, token: bytes) -> None:
        """A request from this state has faulted: the state is needed until it can be sent again."""
        kept = self._kept.get(token)
        if kept is not None and kept.window == window:
            kept.holds += 1

    def release(self, window: WindowKey, token: bytes, now_us: int) -> None:
        """The fault is over; the state's life begins anew."""
        kept = self._kept.get(token)
        if kept is not None and kept.window == window and kept.holds:
            kept.holds -= 1
            kept.used_us = now_us
            self._kept[token] = self._kept.pop(token)

    def forget(self, window: WindowKey) -> None:
        """The window is closed: its states go with it."""
        for token in [token for token, kept in self._kept.items() if kept.window == window]:
            del self._kept[token]

    def clear(self) -> None:
        self._kept.clear()

    def _expire(self, now_us: int) -> None:
        due_us = now_us - self.life_us
        for token in [token for token, kept in self._kept.items() if kept.used_us <= due_us and not kept.holds]:
            del self._kept[token]

    def _evict(self) -> None:
        held = Counter(kept.window for kept in self._kept.values())
        most = max(held.values())
        token = next(token for token, kept in self._kept.items() if held[kept.window] == most)
        del self._kept[token]
