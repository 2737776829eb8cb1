"""Moments at which something is due. The clock comes in with every call."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

COMPACTION_MINIMUM = 256
"""Below this many entries, cancelled ones may stay until their moment."""


@dataclass(slots=True, order=True)
class Alarm:
    """`ring(now_us)` is to be called at `due_us`, unless the alarm is cancelled before."""

    due_us: int
    sequence: int
    ring: Callable[[int], None] | None = field(compare=False)


class Alarms:
    """A clock's worth of alarms; those of one moment ring in the order in which they were set."""

    def __init__(self) -> None:
        self._heap: list[Alarm] = []
        self._cancelled = 0
        self._sequence = 0

    def set(self, due_us: int, ring: Callable[[int], None]) -> Alarm:
        """Call `ring` at that moment."""
        self._sequence += 1
        alarm = Alarm(due_us, self._sequence, ring)
        heapq.heappush(self._heap, alarm)
        return alarm

    def cancel(self, alarm: Alarm | None) -> None:
        """Do not ring; nothing happens if it has rung."""
        if alarm is None or alarm.ring is None:
            return
        alarm.ring = None
        self._cancelled += 1
        if len(self._heap) > COMPACTION_MINIMUM and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if entry.ring is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def tick(self, now_us: int) -> None:
        """Ring what is due."""
        while self._heap and self._heap[0].due_us <= now_us:
            alarm = heapq.heappop(self._heap)
            ring, alarm.ring = alarm.ring, None
            if ring is None:
                self._cancelled -= 1
            else:
                ring(now_us)

    def wake_us(self) -> int | None:
        """The next moment; None where nothing is pending."""
        while self._heap and self._heap[0].ring is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0].due_us if self._heap else None
