"""A fake neighbour of the hypervisor on the real session layer, and the console, which is no more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.dialer import Dialer, Identity
from protocol.effects import Effects, Peer
from protocol.link import CONSOLE, Link
from protocol.message import Message, Reply, Request
from protocol.session import Answered, Ended, Event, Noticed
from protocol.session_messages import BeatEcho, Refused
from protocol.wire import Envelope

if TYPE_CHECKING:
    from tests.hypervisor.cluster import Cluster


class End:
    """One process at the other end of a link. `cut`: nothing gets through in either direction, and nobody notices."""

    def __init__(self, cluster: Cluster, link: Link, role: str, name: str, lease_ms: int, *, by_beats: bool) -> None:
        self.cluster = cluster
        self.link = link
        self.role = role
        self.name = name
        self.terms = cluster.system.times.terms(lease_ms, by_beats=by_beats)
        self.answers: dict[int, Reply | Refused] = {}
        self.notices: list[Message] = []
        self.ended: Refused | None = None
        self.peer: Peer | None = None
        self.cut = False
        self.running = False
        self._dial()

    def _dial(self) -> None:
        self.effects = Effects()
        endpoints = {"local": f"ipc:///run/{self.name}.{self.role}"}
        who = Identity(self.role, self.name, self.cluster.entropy(16), "local", 4711, endpoints)
        self.dialer = Dialer(self.link.name, f"ipc:///run/{self.link.name}", who, self.terms, self.effects)

    def start(self) -> None:
        """Start the process: a new incarnation, with nothing remembered."""
        self._dial()
        self.answers, self.notices, self.ended = {}, [], None
        self.running = True
        self.dialer.open(self.cluster.now_us)

    def die(self) -> None:
        """kill -9: the connection goes with the process."""
        self.running = False
        self.peer = None

    @property
    def epoch(self) -> int:
        return self.dialer.session.epoch

    def receive(self, envelope: Envelope) -> None:
        for event in self.dialer.receive(envelope, self.cluster.now_us):
            self.handle(event)
        if isinstance(envelope.body, BeatEcho):
            self.heard(envelope.body.generation)

    def handle(self, event: Event) -> None:
        if isinstance(event, Answered):
            self.answers[event.number] = event.reply
        elif isinstance(event, Noticed):
            self.notices.append(event.body)
        elif isinstance(event, Ended):
            self.ended = event.refusal
            self.session_ended(event.refusal)

    def heard(self, generation: int) -> None:
        """A beat was echoed."""

    def session_ended(self, refusal: Refused) -> None:
        """The session is over for good."""

    def tick(self) -> None:
        self.dialer.tick(self.cluster.now_us)

    def wake_us(self) -> int | None:
        return self.dialer.wake_us()

    def send(self, body: Request) -> int:
        """Ask without waiting; the number under which the answer will be kept."""
        return self.dialer.call(self.dialer.session, body, self.cluster.now_us)

    def ask(self, body: Request) -> Reply | Refused:
        """Ask and wait for the answer."""
        number = self.send(body)
        self.cluster.wait(lambda: number in self.answers)
        return self.answers[number]


class FakeConsole(End):
    """A management console: its life is its connection."""

    def __init__(self, cluster: Cluster, name: str, role: str = "hmc") -> None:
        super().__init__(cluster, CONSOLE, role, name, cluster.system.times.client_lease_ms, by_beats=False)
