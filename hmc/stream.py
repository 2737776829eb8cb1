"""The order of the telemetry stream: what is new, what was lost, and which snapshot mends it. Pure.

A snapshot says the number of the last message that it includes. What is lost before that number is mended by it, what
comes after that number is applied on top. Only a snapshot tells a restart of the hypervisor (numbers begin again):
another pid, or a number below one that had been seen before it was asked for. A message that is late and one of a new
hypervisor look alike until then: both are held back and a snapshot is wanted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

M = TypeVar("M")
HELD_LIMIT = 20_000
"""Messages that wait for a snapshot; beyond, the oldest go and another snapshot is wanted."""
GAPS_LIMIT = 64
"""Gaps told apart; beyond, the two oldest count as one that is mended with the later one."""


@dataclass(frozen=True, slots=True)
class Arrival(Generic[M]):
    """A message with its number and the hypervisor's time."""

    number: int
    at_us: int
    message: M


@dataclass(slots=True)
class TelemetryStream(Generic[M]):
    """Calls `apply` with each message that belongs on top of the last snapshot, and `hear` with each new one, once.

    `lost` counts numbers that never came, `mended` those of them that a snapshot made good, `ignored` repeats and late
    ones. What went missing while the hypervisor was restarted is not counted: no number tells.
    """

    apply: Callable[[M], None]
    hear: Callable[[M], None]
    lost: int = 0
    mended: int = 0
    ignored: int = 0
    restarts: int = 0
    wants_snapshot: bool = True
    last: int | None = None
    _last_at_us: int = 0
    _included: int = 0
    _pid: int | None = None
    _floor: int = 0
    _asked: bool = False
    _suspicious: bool = False
    _asked_suspicious: bool = False
    _boundary_us: int = 0
    _overflowed: bool = False
    _gaps: deque[tuple[int, int]] = field(default_factory=deque)
    _held: deque[Arrival[M]] = field(default_factory=deque)

    @property
    def is_whole(self) -> bool:
        """Whether the state is that of the hypervisor up to the last message, as far as is known."""
        return self._pid is not None and not self._gaps and not self._suspicious

    def arrive(self, arrival: Arrival[M]) -> None:
        """Take a message in."""
        if self._suspicious and arrival.at_us >= self._boundary_us:
            self._hold(arrival)
            return
        if arrival.at_us < self._last_at_us or self._suspicious:
            # Whatever its number: it is of the past.
            self.ignored += 1
            return
        if self.last is not None and arrival.number <= self.last:
            if arrival.at_us == self._last_at_us:
                self.ignored += 1
                return
            self._suspicious = self.wants_snapshot = True
            self._boundary_us = arrival.at_us
            self._held.clear()
            self._hold(arrival)
            return
        self._take(arrival)
        if self._asked:
            self._hold(arrival)
        if self._pid is not None and arrival.number > self._included:
            self.apply(arrival.message)

    def ask(self) -> None:
        """A snapshot is being asked for: it will include everything that has arrived."""
        self._asked, self.wants_snapshot, self._overflowed = True, False, False
        self._asked_suspicious = self._suspicious
        self._floor = self.last or 0
        if not self._suspicious:
            self._held.clear()

    def unanswered(self) -> None:
        """No snapshot came; another one is wanted."""
        self._asked, self.wants_snapshot = False, True

    def snapshot(self, sequence: int, pid: int, replace: Callable[[], None]) -> None:
        """The answer to `ask`. `replace` makes the snapshot the state."""
        self._asked = False
        if self._suspicious and not self._asked_suspicious:
            # It may be the old hypervisor's word. One asked for from now on is not.
            self.wants_snapshot = True
            return
        known = self._pid is not None
        restarted = known and (pid != self._pid or sequence < max(self._floor, self._included))
        replace()
        self._pid = pid
        if restarted:
            self._begin_anew(sequence)
        else:
            self._go_on(sequence, known=known)
        self._suspicious = False
        self._held.clear()

    def _begin_anew(self, sequence: int) -> None:
        """Another hypervisor: what is held is its own only from where the numbers went back."""
        self.restarts += 1
        self.mended += sum(length for _end, length in self._gaps)
        self._gaps.clear()
        self._included = sequence
        if not self._suspicious:
            # Nobody can tell whose the held messages are.
            self.last, self.wants_snapshot = None, True
            return
        self.last = sequence
        self._replay(take=True)

    def _go_on(self, sequence: int, *, known: bool) -> None:
        if known and self.last is not None and self.last < self._included:
            # They should have come long before this answer.
            self._lose(self._included, self._included - self.last)
            self.last = self._included
        elif self.last is None:
            self.last = sequence
        self._included = sequence
        while self._gaps and self._gaps[0][0] <= sequence:
            self.mended += self._gaps.popleft()[1]
        self.wants_snapshot = bool(self._gaps) or self._overflowed
        if self._suspicious:
            self.ignored += len(self._held)
            newer = [held for held in self._held if self.last is not None and held.number > self.last]
            self.ignored -= len(newer)
            self._held = deque(newer)
        self._replay(take=self._suspicious)

    def _replay(self, *, take: bool) -> None:
        """What the snapshot does not include yet. `take`: its numbers have not been looked at."""
        for held in self._held:
            if take:
                if self.last is not None and held.number <= self.last:
                    self.ignored += 1
                    continue
                self._take(held)
            if held.number > self._included:
                self.apply(held.message)

    def _take(self, arrival: Arrival[M]) -> None:
        """Count what is missing before a new message."""
        if self.last is not None and arrival.number > self.last + 1:
            self._lose(arrival.number - 1, arrival.number - self.last - 1)
        self.last = arrival.number
        self._last_at_us = max(self._last_at_us, arrival.at_us)
        self.hear(arrival.message)

    def _lose(self, end: int, length: int) -> None:
        """So many numbers up to `end` never came."""
        self.lost += length
        if end <= self._included:
            self.mended += length
            return
        self._gaps.append((end, length))
        self.wants_snapshot = True
        if len(self._gaps) > GAPS_LIMIT:
            first, second = self._gaps.popleft(), self._gaps.popleft()
            self._gaps.appendleft((second[0], first[1] + second[1]))

    def _hold(self, arrival: Arrival[M]) -> None:
        self._held.append(arrival)
        if len(self._held) > HELD_LIMIT:
            self._held.popleft()
            self._overflowed = self.wants_snapshot = True
