"""One console as a pure core: answers to its requests, through sessions that may end, or that no answer will come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.asked_again import named_otherwise
from protocol.clock import earliest
from protocol.console_messages import ChangeProcessors, MigratePartition, SetEntitlement, SetQosCredits
from protocol.dialer import Dialer, Identity
from protocol.effects import Effects
from protocol.message import Reply, Request
from protocol.refusals import RefusalCode
from protocol.session import Answered, Ended, Established, Terms
from protocol.session_messages import Refused
from protocol.wire import Envelope, refuse

INCARNATION_BYTES = 16
CHANGES = (ChangeProcessors, SetEntitlement, SetQosCredits, MigratePartition)
"""Requests that would change a partition twice if they were made twice; the others are as good a second time."""


@dataclass(frozen=True, slots=True)
class NotKnown:
    """No answer to a change came, or none to it: it may have been made, may be under way, or may never be. `why` says
    what came instead.
    """

    refusal: Refused
    why: str = "the hypervisor has ended this console's session before it answered"


@dataclass(slots=True)
class ConsoleRequests:
    """Requests of one console; `answers` holds what came until it is fetched, by the ticket that `ask` gave.

    Where the hypervisor has ended the session it has a new one: what changes nothing is asked again there, a change is
    `NotKnown`. `was_established`: whether it ever had one. `ended` says why there can be none at all. `entropy(n)`
    gives n unguessable bytes.
    """

    endpoint: str
    identity: Identity
    entropy: Callable[[int], bytes]
    effects: Effects = field(default_factory=Effects)
    dialer: Dialer = field(init=False)
    answers: dict[int, Reply | Refused | NotKnown] = field(default_factory=dict)
    established: bool = False
    was_established: bool = False
    ended: Refused | None = None
    unanswered: dict[int, Request] = field(default_factory=dict)
    _tickets: dict[int, int] = field(default_factory=dict)
    _last_ticket: int = 0

    def __post_init__(self) -> None:
        self.dialer = Dialer("hmc", self.endpoint, self.identity, Terms(by_beats=False), self.effects)

    def start(self, now_us: int) -> None:
        self.dialer.open(now_us)

    def ask(self, request: Request, now_us: int) -> int:
        """Send a request; its answer appears in `answers` under the ticket returned."""
        self._last_ticket += 1
        self.unanswered[self._last_ticket] = request
        self._send(self._last_ticket, now_us)
        return self._last_ticket

    def receive(self, envelope: Envelope, now_us: int) -> None:
        for event in self.dialer.receive(envelope, now_us):
            match event:
                case Answered(_, _, number, reply):
                    self._answered(number, reply)
                case Established():
                    self.established = self.was_established = True
                case Ended(_, refusal):
                    self._session_ended(refusal, now_us)
                case _:
                    pass

    def tick(self, now_us: int) -> None:
        self.dialer.tick(now_us)

    def wake_us(self) -> int | None:
        return earliest(self.dialer.wake_us())

    def _send(self, ticket: int, now_us: int) -> None:
        number = self.dialer.call(self.dialer.session, self.unanswered[ticket], now_us)
        self._tickets[number] = ticket

    def _answered(self, number: int, reply: Reply | Refused) -> None:
        """An answer that names another partition than was asked about is none; the operator is told of it."""
        ticket = self._tickets.pop(number)
        request = self.unanswered.pop(ticket)
        differs = named_otherwise(request, reply)
        if not differs:
            self.answers[ticket] = reply
            return
        refusal = refuse(RefusalCode.BODY, "an answer to what was asked", differs)
        why = f"{refusal.code}: expected {refusal.expected}, came {refusal.came}"
        self.answers[ticket] = NotKnown(refusal, why) if isinstance(request, CHANGES) else refusal

    def _session_ended(self, refusal: Refused, now_us: int) -> None:
        self.established = False
        if refusal.code is not RefusalCode.SESSION_DEAD or self.dialer.leaving:
            self.ended = refusal
            return
        self._tickets.clear()
        self.dialer.start_over(self.entropy(INCARNATION_BYTES), now_us)
        for ticket, request in list(self.unanswered.items()):
            if isinstance(request, CHANGES):
                del self.unanswered[ticket]
                self.answers[ticket] = NotKnown(refusal)
            else:
                self._send(ticket, now_us)
