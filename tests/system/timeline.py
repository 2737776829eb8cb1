"""The virtual clock: what is to happen, in the order of its time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

RUN_LIMIT_US = 600_000_000


class Timeline:
    """Time passes from one event to the next."""

    def __init__(self) -> None:
        self.now_us = 1_000_000
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = count()

    def later(self, wait_us: int, action: Callable[[], None]) -> None:
        heappush(self._events, (self.now_us + wait_us, next(self._order), action))

    def run_until(self, holds: Callable[[], bool], limit_us: int = RUN_LIMIT_US) -> None:
        """Let things happen until something is so. Fails when the virtual time limit has passed."""
        end_us = self.now_us + limit_us
        while not holds():
            assert self.now_us < end_us, f"not within {limit_us / 1e6:g} virtual seconds"
            self._next()

    def pass_time(self, wait_us: int) -> None:
        end_us = self.now_us + wait_us
        self.later(wait_us, lambda: None)
        while self.now_us < end_us:
            self._next()

    def _next(self) -> None:
        at_us, _, action = heappop(self._events)
        self.now_us = max(self.now_us, at_us)
        action()
