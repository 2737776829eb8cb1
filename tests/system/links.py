"""The network of a simulated system: connections, weather, and who is reached. Every message goes through the codec."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from hmc.requests import ConsoleRequests
from lpar.client.links import link_of
from protocol.effects import DIALLED, Dial, Hangup, Send
from protocol.link import LINKS
from protocol.wire import decode, encode
from tests.system.timeline import Timeline
from tests.system.watching import Killed, StepKind, Watcher

LATENCY_US = (50, 400)
LATE_US = 200_000
SERVERS = ("hypervisor", "nxunit", "lpar")
"""The roles whose node loop drains its sockets before it ends a turn."""


@dataclass(slots=True)
class Weather:
    """What the network does to each message, as probabilities."""

    loss: float = 0.0
    repeat: float = 0.0
    late: float = 0.0


@dataclass(slots=True)
class Host:
    """One process: its core and the turn it needs. `alive` is false once it was killed; `number` is its alone.

    `cause` is what its present turn began with: the type of a message, or `start`, `timer`, `job` or `gone`.
    """

    role: str
    name: str
    number: int
    core: Any
    listens: dict[str, str]
    alive: bool = True
    connections: dict[str, bytes] = field(default_factory=dict)
    ticking_us: int | None = None
    cause: str = "start"


@dataclass(frozen=True, slots=True)
class Connection:
    """A dialled connection: who dialled on which link, and whom it reaches."""

    dialer: Host
    key: str
    endpoint: str


class Links(Timeline):
    """Hosts and the connections between them. A server that ends its turns `turn_us` after their first message takes
    in whatever comes meanwhile, as the node loop drains its sockets: then one commit stores it all. 0: one by one.
    """

    def __init__(self, seed: int, turn_us: int = 0) -> None:
        super().__init__()
        self.turn_us = turn_us
        self.random = Random(seed)
        self.weather = Weather()
        self.watchers: list[Watcher] = []
        self.hosts: dict[str, Host] = {}
        self.connections: dict[bytes, Connection] = {}
        self.delivered = 0
        self._reading: set[int] = set()

    @abstractmethod
    def step(self, host: Host, kind: StepKind, message: str) -> None:
        """Something of this process is about to take effect. Raises Killed where a watcher has killed it."""

    @abstractmethod
    def settle(self, host: Host) -> None:
        """The end of a turn."""

    def _carry_out(self, host: Host, wish: Send | Dial | Hangup) -> None:
        if isinstance(wish, Send):
            peer = wish.peer or host.connections.get(wish.link, b"")
            connection = self.connections.get(peer)
            for watcher in self.watchers:
                watcher.sent(host, wish, self._reached(connection, wish))
            if connection is None:
                if wish.peer:
                    self.later(0, lambda: self._unreachable(host, wish.link, wish.peer))
                return
            self._transmit(peer, connection, wish)
            return
        self.connections.pop(host.connections.pop(wish.link, b""), None)
        if isinstance(wish, Dial):
            peer = self.random.randbytes(5)
            host.connections[wish.link] = peer
            self.connections[peer] = Connection(host, wish.link, wish.endpoint)

    def _unreachable(self, host: Host, link: str, peer: bytes) -> None:
        if host.alive:
            host.cause = "gone"
            host.core.unreachable(link, peer, self.now_us)
            self.settle(host)

    def _transmit(self, peer: bytes, connection: Connection, send: Send) -> None:
        upwards = send.peer == DIALLED
        link = link_of(connection.key) if upwards else LINKS[send.link]
        frames = encode(send.envelope)
        vocabulary = link.up if upwards else link.down
        weather, random = self.weather, self.random

        def arrive() -> None:
            if self.connections.get(peer) is connection:
                self._deliver(peer, connection, upwards=upwards, envelope=decode(frames, vocabulary))

        if random.random() >= weather.loss:
            late_us = random.randint(0, LATE_US) if random.random() < weather.late else 0
            self.later(random.randint(*LATENCY_US) + late_us, arrive)
            if random.random() < weather.repeat:
                self.later(random.randint(*LATENCY_US) + random.randint(0, LATE_US), arrive)

    def _deliver(self, peer: bytes, connection: Connection, *, upwards: bool, envelope: Any) -> None:
        if upwards:
            found = self._listener(connection.endpoint)
            if found is None:
                return
            host, link = found
        else:
            host, link, peer = connection.dialer, connection.key, DIALLED
            if not host.alive:
                return
        with suppress(Killed):
            self.step(host, StepKind.INPUT, envelope.body.type)
            if isinstance(host.core, ConsoleRequests):
                host.core.receive(envelope, self.now_us)
            else:
                host.core.receive(link, peer, envelope, self.now_us)
            self.delivered += 1
            if self.turn_us and host.role in SERVERS:
                self._read_on(host)
            else:
                self._end_reading(host)

    def _read_on(self, host: Host) -> None:
        """End the turn a little later, unless it is to end already."""
        if host.number in self._reading:
            return
        self._reading.add(host.number)

        def end() -> None:
            self._reading.discard(host.number)
            if host.alive:
                with suppress(Killed):
                    self._end_reading(host)

        self.later(self.turn_us, end)

    def _end_reading(self, host: Host) -> None:
        self.step(host, StepKind.TICK, host.cause)
        host.core.tick(self.now_us)
        self.settle(host)

    def _listener(self, endpoint: str) -> tuple[Host, str] | None:
        for host in self.hosts.values():
            for link, at in host.listens.items():
                if at == endpoint:
                    return host, link
        return None

    def _reached(self, connection: Connection | None, send: Send) -> str:
        """Who is at the other end of a connection; empty where nobody is."""
        if connection is None:
            return ""
        if send.peer != DIALLED:
            return connection.dialer.name
        found = self._listener(connection.endpoint)
        return "" if found is None else found[0].name
