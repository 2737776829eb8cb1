"""A client process under test: the dialling end of the device link, and what its kernel did to it."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.device_messages import CsbUpdated, RaiseSignal, SignalTaken, UpdateCsb
from protocol.dialer import Dialer, Identity
from protocol.effects import Effects, Peer
from protocol.message import Reply
from protocol.session import Answered, Called, Ended, Event
from protocol.session_messages import Refused
from protocol.system import Times
from protocol.wire import Envelope

TIMES = Times()


class Client:
    """A client process: the dialling end of the device link."""

    def __init__(self, name: str, pid: int, now_us: int) -> None:
        self.effects = Effects()
        terms = TIMES.terms(TIMES.client_lease_ms, by_beats=False)
        identity = Identity("client", name, name.encode().ljust(16, b"."), "local", pid, {})
        self.pid = pid
        self.dialer = Dialer("device", "inproc://lp1", identity, terms, self.effects)
        self.answers: dict[int, Reply | Refused] = {}
        self.answered_at_us: dict[int, int] = {}
        self.ended: Refused | None = None
        self.peer: Peer = b""
        self.running = True
        self.blocks: list[UpdateCsb] = []
        self.signals: list[RaiseSignal] = []
        self.waiting: list[Called] = []
        self.answers_kernel = True
        self.dialer.open(now_us)

    def receive(self, envelope: Envelope, now_us: int) -> None:
        self.take(self.dialer.receive(envelope, now_us), now_us)

    def take(self, events: list[Event], now_us: int) -> None:
        for event in events:
            if isinstance(event, Answered):
                self.answers[event.number] = event.reply
                self.answered_at_us[event.number] = now_us
            elif isinstance(event, Ended):
                self.ended = event.refusal
            elif isinstance(event, Called):
                self.waiting.append(event)
        if self.answers_kernel:
            self.answer_kernel()

    def answer_kernel(self) -> None:
        """Take what the kernel has written into the process or sent it."""
        for event in self.waiting:
            reply: Reply = CsbUpdated()
            if isinstance(event.body, UpdateCsb):
                self.blocks.append(event.body)
            else:
                assert isinstance(event.body, RaiseSignal)
                self.signals.append(event.body)
                reply = SignalTaken()
            self.dialer.answer(event.session, event.number, reply)
        self.waiting.clear()


@dataclass(slots=True)
class OpenedWindow:
    """What a client knows of a window that it opened."""

    client: Client
    descriptor: int
    window_id: int
