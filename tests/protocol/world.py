"""A counter behind one listener and two processes that call it, on a network that does what it is told.

The model is plain: which request of which incarnation was carried out how often and what was answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.clock import earliest
from protocol.dialer import Dialer, Identity
from protocol.effects import Dial, Effects, Hangup, Peer, Send
from protocol.hcall_messages import Configuration
from protocol.message import Message
from protocol.refusals import RefusalCode
from protocol.session import Answered, Called, Ended, Event, Opened, Terms
from tests.protocol.bench import START_US, Packet
from tests.protocol.counter import CounterProcess, Disk, Key


@dataclass(slots=True, eq=False)
class Partition:
    """A calling process and what it knows: `asked` and `answered` by request."""

    dialer: Dialer
    effects: Effects
    peer: Peer | None = None
    asked: dict[Key, Message] = field(default_factory=dict)
    answered: dict[Key, Message] = field(default_factory=dict)

    @property
    def incarnation(self) -> bytes:
        return self.dialer.identity.incarnation


class World:
    """Every process of a run, the messages on their way and what has been seen.

    With `keeps_sessions` the listener's sessions outlive its process; without, only their epochs do.
    """

    terms = Terms()
    keeps_sessions = True

    def __init__(self) -> None:
        super().__init__()
        self.now_us = START_US
        self.disk = Disk()
        self.packets: list[Packet] = []
        self.connections = 0
        self.drawn = 0
        self.epochs_opened: dict[str, int] = {}
        self.opened_in_cycle: dict[str, int] = {}
        self.asked_of: dict[tuple[str, int, int], Message] = {}
        """What the listener asked: name, epoch and number."""
        self.answered_to: set[tuple[str, int, int]] = set()
        self.done: dict[tuple[str, int, int], Configuration] = {}
        """What the calling processes carried out for the listener."""
        self.crash_next = False
        self.server = self.new_server()
        self.partitions: dict[str, Partition] = {}
        self.name_of: dict[bytes, str] = {}

    # The processes.

    def entropy(self, count: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(count, "big")

    def new_server(self) -> CounterProcess:
        server = CounterProcess(self.terms, self.disk, self.entropy)
        server.start(self.keeps_sessions, self.now_us)
        return server

    def start_partition(self, name: str) -> None:
        effects = Effects()
        who = Identity("lpar", name, self.entropy(16), "local", 1, {})
        partition = Partition(Dialer("hcall", "ipc://counter", who, self.terms, effects), effects)
        self.partitions[name] = partition
        self.name_of[partition.incarnation] = name
        partition.dialer.open(self.now_us)
        self.transmit(partition)

    def owner_of(self, peer: Peer) -> Partition | None:
        return next((partition for partition in self.partitions.values() if partition.peer == peer), None)

    def reconnect(self, partition: Partition) -> None:
        self.connections += 1
        partition.peer = b"connection %d" % self.connections

    def transmit(self, partition: Partition) -> None:
        for wish in partition.effects.take().transmissions:
            if isinstance(wish, Dial):
                self.reconnect(partition)
            elif isinstance(wish, Hangup):
                partition.peer = None
            elif partition.peer is not None:
                self.packets.append(Packet(True, partition.peer, wish.envelope, partition.incarnation))

    def end_cycle(self) -> None:
        """Commit and send, or die between the two halves of the cycle: what was not stored was never said."""
        if self.crash_next:
            self.restart_listener()
            return
        self.server.commit()
        for name, epoch in self.opened_in_cycle.items():
            assert epoch > self.epochs_opened.get(name, 0), "epochs strictly rise"
            self.epochs_opened[name] = epoch
        self.opened_in_cycle.clear()
        for wish in self.server.effects.take().transmissions:
            assert isinstance(wish, Send)
            if self.owner_of(wish.peer) is None:
                self.server.listener.unreachable(wish.peer, self.now_us)
            else:
                self.packets.append(Packet(False, wish.peer, wish.envelope, b""))

    def restart_listener(self) -> None:
        """The process is gone with everything uncommitted; ZeroMQ makes the connections anew by itself."""
        self.crash_next = False
        self.opened_in_cycle.clear()
        self.asked_of = {key: body for key, body in self.asked_of.items() if key in self.answered_to}
        self.server = self.new_server()
        fresh: dict[Peer, Peer] = {}
        for partition in self.partitions.values():
            before = partition.peer
            self.reconnect(partition)
            fresh[before or b""] = partition.peer or b""
        for packet in self.packets:
            packet.peer = fresh.get(packet.peer, packet.peer)

    # What the network does and what everybody says to it.

    def deliver(self, index: int, *, answer_now: bool = True, put_off: bool = False) -> None:
        packet = self.packets.pop(index)
        if packet.upward:
            events = self.server.receive(packet.peer, packet.envelope, self.now_us)
            self.server_events(events, packet, answer_now, put_off)
            self.end_cycle()
            return
        partition = self.owner_of(packet.peer)
        if partition is not None:
            self.partition_events(partition, partition.dialer.receive(packet.envelope, self.now_us))

    def server_events(self, events: list[Event], packet: Packet, answer_now: bool, put_off: bool) -> None:
        for event in events:
            if isinstance(event, Called):
                assert event.session.alive
                assert event.session.epoch == packet.envelope.epoch, "an older epoch's message was accepted"
                assert event.session.incarnation == packet.sender, "another incarnation's message was accepted"
                if put_off:
                    self.server.listener.retry(event.session, event.number, 20)
                elif answer_now:
                    self.server.carry_out(event)
                else:
                    self.server.put_off.append(event)
            elif isinstance(event, Opened):
                self.opened_in_cycle[event.session.name] = event.session.epoch
            elif isinstance(event, Answered):
                key = (event.session.name, event.session.epoch, event.number)
                assert key not in self.answered_to, "an answer reached its caller twice"
                self.answered_to.add(key)
                assert self.asked_of[key] == event.request
                assert event.reply == self.done[key]

    def partition_events(self, partition: Partition, events: list[Event]) -> None:
        for event in events:
            key = (partition.incarnation, getattr(event, "number", 0))
            if isinstance(event, Answered):
                assert key not in partition.answered, "an answer reached its caller twice"
                assert event.request == partition.asked[key]
                assert event.reply == self.disk.answers[key], "an answer that was not stored, or another request's"
                partition.answered[key] = event.reply
            elif isinstance(event, Called):
                place = (event.session.name, event.session.epoch, event.number)
                assert place not in self.done, "a request of the listener was carried out twice"
                answer = self.done[place] = Configuration(generation=len(self.done))
                partition.dialer.answer(event.session, event.number, answer)
            elif isinstance(event, Ended):
                self.session_ended(partition, event)
        self.transmit(partition)

    def session_ended(self, partition: Partition, event: Ended) -> None:
        """The dead incarnation's requests have no fate any more; the process starts over."""
        assert event.refusal.code is RefusalCode.SESSION_DEAD
        alive = self.server.listener.sessions.get(event.session.name)
        assert alive is None or alive.epoch != event.session.epoch, "a live session was declared dead"
        partition.asked.clear()
        partition.answered.clear()
        partition.dialer.start_over(self.entropy(16), self.now_us)
        self.name_of[partition.incarnation] = event.session.name

    def tick(self) -> None:
        self.server.listener.tick(self.now_us)
        wake_us = self.server.listener.wake_us()
        assert wake_us is None or wake_us > self.now_us, "the listener would spin"
        self.end_cycle()
        for partition in self.partitions.values():
            partition.dialer.tick(self.now_us)
            wake_us = partition.dialer.wake_us()
            assert wake_us is None or wake_us > self.now_us, "the dialer would spin"
            self.transmit(partition)

    def wake_us(self) -> int | None:
        return earliest(self.server.listener.wake_us(), *(item.dialer.wake_us() for item in self.partitions.values()))

    def answer(self, call: Called) -> None:
        """Carry out a request that was put off, unless its session has ended since."""
        if call.session.alive:
            self.server.carry_out(call)
        self.end_cycle()

    @property
    def is_quiet(self) -> bool:
        """Whether every process has a session and every request its answer."""
        return not self.packets and all(
            partition.dialer.established and partition.asked.keys() == partition.answered.keys()
            for partition in self.partitions.values()
        )
