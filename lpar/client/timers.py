"""Moments at which something is to be done, on a clock that is passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count

COMPACT_FROM = 64
"""Below this many entries cancelled ones are not worth sweeping out."""


@dataclass(order=True, slots=True)
class Timer:
    """One appointment; `cancel` makes it void."""

    due_us: int
    order: int
    action: Callable[[int], None] | None = field(compare=False)


class Timers:
    """Appointments in order of time, and in order of making at the same moment."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._order = count()
        self._void = 0

    def at(self, due_us: int, action: Callable[[int], None]) -> Timer:
        """Call `action(now_us)` once `due_us` has come."""
        timer = Timer(due_us, next(self._order), action)
        heappush(self._heap, timer)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Make an appointment void; one that is past or void already is left alone."""
        if timer is None or timer.action is None:
            return
        timer.action = None
        self._void += 1
        if len(self._heap) >= COMPACT_FROM and self._void > len(self._heap) // 2:
            self._heap = [entry for entry in self._heap if entry.action is not None]
            heapify(self._heap)
            self._void = 0

    def fire(self, now_us: int) -> None:
        """Keep every appointment whose time has come."""
        while self._heap and self._heap[0].due_us <= now_us:
            timer = heappop(self._heap)
            action, timer.action = timer.action, None
            if action is None:
                self._void -= 1
            else:
                action(now_us)

    def wake_us(self) -> int | None:
        """The next appointment."""
        while self._heap and self._heap[0].action is None:
            heappop(self._heap)
            self._void -= 1
        return self._heap[0].due_us if self._heap else None
