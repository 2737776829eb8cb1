"""One console session as a pure core: numbered requests, answers by number, a clear word when there is nobody."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.clock import earliest
from protocol.dialer import Dialer, Identity
from protocol.effects import Effects
from protocol.message import Reply, Request
from protocol.session import Answered, Ended, Established, Terms
from protocol.session_messages import Refused
from protocol.wire import Envelope


@dataclass(slots=True)
class ConsoleRequests:
    """Requests of one console; `answers` holds what came until it is fetched."""

    endpoint: str
    identity: Identity
    effects: Effects = field(default_factory=Effects)
    dialer: Dialer = field(init=False)
    answers: dict[int, Reply | Refused] = field(default_factory=dict)
    established: bool = False
    ended: Refused | None = None

    def __post_init__(self) -> None:
        self.dialer = Dialer("hmc", self.endpoint, self.identity, Terms(by_beats=False), self.effects)

    def start(self, now_us: int) -> None:
        self.dialer.open(now_us)

    def ask(self, request: Request, now_us: int) -> int:
        """Send a request; its answer appears in `answers` under the number returned."""
        return self.dialer.call(self.dialer.session, request, now_us)

    def receive(self, envelope: Envelope, now_us: int) -> None:
        for event in self.dialer.receive(envelope, now_us):
            match event:
                case Answered(_, _, number, reply):
                    self.answers[number] = reply
                case Established():
                    self.established = True
                case Ended(_, refusal):
                    self.ended = refusal
                case _:
                    pass

    def tick(self, now_us: int) -> None:
        self.dialer.tick(now_us)

    def wake_us(self) -> int | None:
        return earliest(self.dialer.wake_us())
