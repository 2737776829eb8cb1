"""A listener and its dialers on a virtual clock, joined by a network that does what a test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from protocol.clock import earliest
from protocol.dialer import Dialer, Identity
from protocol.effects import Dial, Effects, Hangup, Peer, Send
from protocol.listener import Listener
from protocol.message import Message
from protocol.session import Event, Session, Terms
from protocol.wire import Envelope

E = TypeVar("E", bound=Event)
LINK = "hcall"
TERMS = Terms()
LIFELONG = Terms(by_beats=False, lease_us=5_000_000)
"""Sessions that live as long as their connection."""
START_US = 1_000_000_000
ROUNDS_MOST = 2_000
"""More rounds than this without time passing are a storm."""


@dataclass(slots=True)
class Packet:
    """A message on its way; `peer` names the connection that carries it, `sender` the incarnation it came from."""

    upward: bool
    peer: Peer
    envelope: Envelope
    sender: bytes


@dataclass(slots=True, eq=False)
class Host:
    """A dialling process. `peer` is its connection, as the listener knows it; None while it has none."""

    dialer: Dialer
    effects: Effects
    peer: Peer | None = None
    events: list[Event] = field(default_factory=list)

    @property
    def session(self) -> Session:
        return self.dialer.session

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


class Bench:
    """The simulated network and its processes; times in microseconds of one clock that all share."""

    def __init__(self, terms: Terms = TERMS) -> None:
        self.terms = terms
        self.now_us = START_US
        self.hosts: list[Host] = []
        self.packets: list[Packet] = []
        self.events: list[Event] = []
        self.seen: list[Packet] = []
        """Everything that arrived, in order."""
        self._connections = 0
        self._entropy = 0
        self.effects = Effects()
        self.listener = self.make_listener()

    # The processes.

    def entropy(self, count: int) -> bytes:
        self._entropy += 1
        return self._entropy.to_bytes(count, "big")

    def make_listener(self) -> Listener:
        return Listener(LINK, self.terms, self.effects, self.entropy)

    def host(self, name: str = "lp1", incarnation: bytes | None = None) -> Host:
        """A new dialling process that has not dialled yet."""
        effects = Effects()
        who = Identity("lpar", name, incarnation or self.entropy(16), "local", 1, {})
        host = Host(Dialer(LINK, "ipc://listener", who, self.terms, effects), effects)
        self.hosts.append(host)
        return host

    def connected(self, name: str = "lp1") -> Host:
        """A dialling process with an open session."""
        host = self.host(name)
        host.dialer.open(self.now_us)
        self.settle()
        assert host.dialer.established
        return host

    def kill(self, host: Host) -> None:
        """SIGKILL: its connection goes with it."""
        self.hosts.remove(host)
        host.peer = None

    def reconnect(self, host: Host) -> None:
        """What ZeroMQ does by itself when a connection breaks: another one, and nobody is told."""
        self._connections += 1
        host.peer = b"connection %d" % self._connections

    # Messages.

    @property
    def live(self) -> dict[Peer, Host]:
        """Which connections exist and whose they are."""
        return {host.peer: host for host in self.hosts if host.peer is not None}

    def collect(self) -> None:
        """Put on the wire what the processes want sent."""
        for host in self.hosts:
            self._collect_from(host)
        live = self.live
        for transmission in self.effects.take().transmissions:
            assert isinstance(transmission, Send)
            if transmission.peer in live:
                self.packets.append(Packet(False, transmission.peer, transmission.envelope, b""))
            else:
                self.listener.unreachable(transmission.peer, self.now_us)

    def _collect_from(self, host: Host) -> None:
        for transmission in host.effects.take().transmissions:
            if isinstance(transmission, Dial):
                self.reconnect(host)
            elif isinstance(transmission, Hangup):
                host.peer = None
            elif host.peer is not None:
                incarnation = host.dialer.identity.incarnation
                self.packets.append(Packet(True, host.peer, transmission.envelope, incarnation))

    def deliver(self, packet: Packet) -> list[Event]:
        """One message arrives; the events are kept with the process that it arrived at, too."""
        self.seen.append(packet)
        if packet.upward:
            events = self.listener.receive(packet.peer, packet.envelope, self.now_us)
            self.events += events
            return events
        host = self.live.get(packet.peer)
        if host is None:
            return []
        events = host.dialer.receive(packet.envelope, self.now_us)
        host.events += events
        return events

    def settle(self) -> None:
        """Deliver in order until nothing is on its way."""
        for _ in range(ROUNDS_MOST):
            self.collect()
            if not self.packets:
                return
            self.deliver(self.packets.pop(0))
        raise AssertionError("the messages do not end")

    def lose(self) -> None:
        """Everything on its way is lost."""
        self.collect()
        self.packets.clear()

    def arrived(self, kind: type[Message]) -> list[Envelope]:
        """The messages of one type that arrived so far."""
        return [packet.envelope for packet in self.seen if isinstance(packet.envelope.body, kind)]

    # Time.

    def tick(self) -> None:
        """Let every process do what is due."""
        self.events += self.listener.tick(self.now_us)
        for host in self.hosts:
            host.dialer.tick(self.now_us)

    def wake_us(self) -> int | None:
        return earliest(self.listener.wake_us(), *(host.dialer.wake_us() for host in self.hosts))

    def pass_time(self, duration_us: int) -> None:
        """Time passes while the processes tick exactly when they asked to and every message arrives at once."""
        end_us = self.now_us + duration_us
        self.settle()
        for _ in range(ROUNDS_MOST):
            wake_us = self.wake_us()
            if wake_us is None or wake_us > end_us:
                self.now_us = end_us
                self.tick()
                self.settle()
                return
            self.now_us = max(self.now_us, wake_us)
            self.tick()
            again_us = self.wake_us()
            assert again_us is None or again_us > self.now_us, "a process that wants to be woken in the past spins"
            self.settle()
        raise AssertionError("the processes do not rest")

    def listener_alone(self, duration_us: int) -> None:
        """Time passes for the listener; the dialling processes are stopped and nothing reaches anybody."""
        self.lose()
        end_us = self.now_us + duration_us
        while self.now_us < end_us:
            wake_us = self.listener.wake_us()
            self.now_us = end_us if wake_us is None else min(end_us, max(wake_us, self.now_us + 1))
            self.events += self.listener.tick(self.now_us)
            self.lose()

    def of(self, kind: type[E]) -> list[E]:
        """The listener's events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


def raw(
    bench: Bench, peer: Peer, body: Message, epoch: int = 0, number: int = 0, acked_below: int = 0
) -> list[Envelope]:
    """What the listener says at once to a hand-made message of a connection."""
    bench.events += bench.listener.receive(peer, Envelope(body, epoch, number, acked_below), bench.now_us)
    sends = [wish for wish in bench.effects.take().transmissions if isinstance(wish, Send)]
    return [wish.envelope for wish in sends if wish.peer == peer]
