"""Exactly once in effect: numbered requests, repeated until answered, carried out once. Pure.

A session has one `Caller` and one `Callee` on each side. The caller repeats an unanswered request with the same
number; the callee keeps each answer until the caller's `acked_below` passes its number, and answers a repeat from
there. Requests are independent of each other: a later one may be carried out before a repeated earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from protocol.clock import MILLISECOND_US
from protocol.message import Message, Request

OUTSTANDING_LIMIT = 64
"""Unanswered requests on the wire per session and direction (K)."""
BACKLOG_LIMIT = 100_000
"""Requests a caller holds altogether, those that wait for a place on the wire included."""
REPEAT_FIRST_US = 500 * MILLISECOND_US
REPEAT_MOST_US = 4_000 * MILLISECOND_US


class BacklogFull(Exception):
    """The caller holds BACKLOG_LIMIT requests: something produces them faster than the peer answers."""


@dataclass(slots=True)
class Outstanding:
    """A request that has no answer yet; `due_us` is when to put it on the wire (again)."""

    number: int
    body: Request
    due_us: int
    repeat_us: int = REPEAT_FIRST_US
    sent: int = 0


@dataclass(slots=True)
class Caller:
    """The asking side of a session."""

    limit: int = OUTSTANDING_LIMIT
    next_number: int = 1
    outstanding: dict[int, Outstanding] = field(default_factory=dict)

    @property
    def acked_below(self) -> int:
        """Every request with a number below this has been answered."""
        return next(iter(self.outstanding), self.next_number)

    def call(self, body: Request, now_us: int) -> int:
        """Number a request and queue it. Raises BacklogFull."""
        if len(self.outstanding) >= BACKLOG_LIMIT:
            raise BacklogFull(f"{BACKLOG_LIMIT} requests are waiting for answers")
        number = self.next_number
        self.next_number += 1
        self.outstanding[number] = Outstanding(number, body, now_us)
        return number

    def _on_wire(self) -> Iterator[Outstanding]:
        """The requests that the limit lets onto the wire; numbers rise, so they are the first ones."""
        ceiling = self.acked_below + self.limit
        for entry in self.outstanding.values():
            if entry.number >= ceiling:
                return
            yield entry

    def due(self, now_us: int) -> list[Outstanding]:
        """What to put on the wire now; each entry's next repeat is scheduled with doubling delays."""
        if not self.outstanding:
            return []
        ready = [entry for entry in self._on_wire() if entry.due_us <= now_us]
        for entry in ready:
            entry.sent += 1
            entry.due_us = now_us + entry.repeat_us
            entry.repeat_us = min(2 * entry.repeat_us, REPEAT_MOST_US)
        return ready

    def wake_us(self) -> int | None:
        if not self.outstanding:
            return None
        return min(entry.due_us for entry in self._on_wire())

    @property
    def is_waiting(self) -> bool:
        """Whether a request is on the wire without an answer."""
        first = next(iter(self.outstanding.values()), None)
        return first is not None and first.sent > 0

    def settle(self, number: int) -> Request | None:
        """The answer to `number` came. None: it was answered before, ignore this one."""
        entry = self.outstanding.pop(number, None)
        return None if entry is None else entry.body

    def postpone(self, number: int, after_us: int, now_us: int) -> None:
        """The peer said RETRY: repeat with the same number after a while (0: the peer names no time)."""
        entry = self.outstanding.get(number)
        if entry is not None:
            entry.due_us = now_us + (after_us or REPEAT_FIRST_US)
            entry.repeat_us = REPEAT_FIRST_US

    def repeat_all(self, now_us: int) -> None:
        """The connection is new: everything on the wire may have been lost with the old one."""
        for entry in self._on_wire():
            entry.due_us = now_us
            entry.repeat_us = REPEAT_FIRST_US


class Admission(Enum):
    """What a callee does with a request number."""

    EXECUTE = auto()
    REPEAT_ANSWER = auto()
    ALREADY_UNDER_WAY = auto()
    STALE = auto()
    TOO_MANY = auto()


@dataclass(slots=True)
class Callee:
    """The answering side of a session."""

    limit: int = OUTSTANDING_LIMIT
    acked_below: int = 1
    answers: dict[int, Message] = field(default_factory=dict)
    under_way: set[int] = field(default_factory=set)

    def acknowledge(self, acked_below: int) -> bool:
        """The caller has the answers below this number. True where answers were forgotten."""
        if acked_below <= self.acked_below:
            return False
        self.acked_below = acked_below
        forgotten = [number for number in self.answers if number < acked_below]
        for number in forgotten:
            del self.answers[number]
        return bool(forgotten)

    def admit(self, number: int) -> Admission:
        """Decide on a request; EXECUTE marks it as under way.

        A caller that acknowledges what it has no answer for cannot make `under_way` grow beyond the limit.
        """
        if number < self.acked_below:
            return Admission.STALE
        if number in self.answers:
            return Admission.REPEAT_ANSWER
        if number in self.under_way:
            return Admission.ALREADY_UNDER_WAY
        if number >= self.acked_below + self.limit or len(self.under_way) >= self.limit:
            return Admission.TOO_MANY
        self.under_way.add(number)
        return Admission.EXECUTE

    def settle(self, number: int, answer: Message) -> bool:
        """Keep the answer of a request under way. False where it is not: nothing is to be sent."""
        if number not in self.under_way:
            return False
        self.under_way.discard(number)
        if number >= self.acked_below:
            self.answers[number] = answer
        return True

    def abandon(self, number: int) -> bool:
        """Forget a request under way without an answer (RETRY): a repeat is carried out anew."""
        if number not in self.under_way:
            return False
        self.under_way.discard(number)
        return True
