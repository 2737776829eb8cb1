"""Exactly once in effect, on the worst network: messages lost, doubled, delayed and reordered, processes killed.

A counter behind one listener, called by two processes. The model is plain: which request of which incarnation was
carried out how often and what was answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.clock import MILLISECOND_US, SECOND_US, earliest
from protocol.dialer import Dialer, Identity
from protocol.effects import Dial, Effects, Hangup, Peer, Send
from protocol.hcall_messages import Configuration, QueryConfiguration
from protocol.message import Message
from protocol.refusals import RefusalCode
from protocol.session import Answered, Called, Ended, Event, Opened, Terms
from protocol.session_messages import Hello
from tests.protocol.bench import LIFELONG, START_US, Packet
from tests.protocol.counter import CounterProcess, Disk, Key

NAMES = ("lp1", "lp2")
HEALED_WITHIN_US = 20 * SECOND_US
"""A lease and its margin for a name that somebody else had, then HELLO, then the answers."""
MESSAGES_PER_REQUEST_MOST = 40
DURATIONS_US = (MILLISECOND_US, 400 * MILLISECOND_US, SECOND_US, 3 * SECOND_US, 11 * SECOND_US)


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


class Exchange(RuleBasedStateMachine):
    """Sessions that beat and that the listener keeps across restarts, as the hypervisor keeps its partitions'."""

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

    @initialize()
    def start(self) -> None:
        for name in NAMES:
            self.start_partition(name)
        while self.packets:
            self.deliver(0)

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

    # What the network does.

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

    names = st.sampled_from(NAMES)

    @rule(name=names, count=st.sampled_from([1, 2, 3, 80]))
    def ask(self, name: str, count: int) -> None:
        partition = self.partitions[name]
        for _ in range(count):
            request = QueryConfiguration(generation=len(partition.asked))
            number = partition.dialer.call(partition.dialer.session, request, self.now_us)
            partition.asked[partition.incarnation, number] = request
        self.transmit(partition)

    @precondition(lambda self: self.packets)
    @rule(data=st.data(), count=st.integers(1, 12), answer_now=st.booleans(), put_off=st.booleans())
    def deliver_in_any_order(self, data: st.DataObject, count: int, answer_now: bool, put_off: bool) -> None:
        for _ in range(min(count, len(self.packets))):
            index = data.draw(st.integers(0, len(self.packets) - 1))
            self.deliver(index, answer_now=answer_now, put_off=put_off)

    @rule(count=st.integers(1, 100), answer_now=st.booleans())
    def deliver_in_order(self, count: int, answer_now: bool) -> None:
        for _ in range(min(count, len(self.packets))):
            self.deliver(0, answer_now=answer_now)

    @precondition(lambda self: self.packets)
    @rule(data=st.data())
    def lose_a_message(self, data: st.DataObject) -> None:
        self.packets.pop(data.draw(st.integers(0, len(self.packets) - 1)))

    @precondition(lambda self: self.packets)
    @rule(data=st.data())
    def double_a_message(self, data: st.DataObject) -> None:
        packet = self.packets[data.draw(st.integers(0, len(self.packets) - 1))]
        self.packets.append(Packet(packet.upward, packet.peer, packet.envelope, packet.sender))

    @precondition(lambda self: self.packets)
    @rule(data=st.data())
    def a_message_turns_up_on_a_later_connection(self, data: st.DataObject) -> None:
        """Of the same name, as through a forwarder; HELLO cannot, for it is what makes a connection that name's."""
        packet = self.packets[data.draw(st.integers(0, len(self.packets) - 1))]
        name = self.name_of.get(packet.sender)
        if name is not None and not isinstance(packet.envelope.body, Hello):
            packet.peer = self.partitions[name].peer or packet.peer

    @rule(
        disaster=st.sampled_from(["break", "partition", "listener", "before_commit"]),
        name=names,
        lost=st.sampled_from([(), (True,), (False,), (True, False)]),
    )
    def something_dies(self, disaster: str, name: str, lost: tuple[bool, ...]) -> None:
        """A connection, a partition (its messages may still be on their way), or the listener, perhaps mid-cycle."""
        self.packets = [packet for packet in self.packets if packet.upward not in lost]
        if disaster == "break":
            self.reconnect(self.partitions[name])
        elif disaster == "partition":
            self.start_partition(name)
        elif disaster == "listener":
            self.restart_listener()
        else:
            self.crash_next = True

    @precondition(lambda self: self.server.put_off)
    @rule(data=st.data())
    def answer_one_that_waited(self, data: st.DataObject) -> None:
        call = self.server.put_off.pop(data.draw(st.integers(0, len(self.server.put_off) - 1)))
        if call.session.alive:
            self.server.carry_out(call)
        self.end_cycle()

    @rule(duration_us=st.sampled_from(DURATIONS_US))
    def time_passes(self, duration_us: int) -> None:
        self.now_us += duration_us
        self.tick()

    # What must hold.

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

    @invariant()
    def no_request_was_carried_out_twice(self) -> None:
        assert all(count == 1 for count in self.disk.executed.values())
        assert self.disk.total == len(self.disk.executed)

    @invariant()
    def tables_are_bounded(self) -> None:
        for session in self.server.listener.sessions.values():
            assert len(session.callee.answers) <= session.callee.limit
            assert len(session.callee.under_way) <= session.callee.limit
        for kept in self.disk.sessions.values():
            assert len(kept.answers) <= 64

    def teardown(self) -> None:
        """The network heals: every request that has a living caller is answered, and soon."""
        self.crash_next = False
        limit_us = self.now_us + HEALED_WITHIN_US
        delivered = 0
        while not self.is_quiet:
            while self.packets:
                self.deliver(0)
                delivered += 1
            while self.server.put_off:
                call = self.server.put_off.pop()
                if call.session.alive:
                    self.server.carry_out(call)
                self.end_cycle()
            if self.packets or self.is_quiet:
                continue
            wake_us = earliest(
                self.server.listener.wake_us(), *(item.dialer.wake_us() for item in self.partitions.values())
            )
            assert wake_us is not None, "somebody waits for an answer and nobody will wake"
            self.now_us = max(self.now_us, wake_us)
            assert self.now_us <= limit_us, "a request was not answered after the network had healed"
            self.tick()
        asked = sum(len(partition.asked) for partition in self.partitions.values())
        assert delivered <= 1_000 + MESSAGES_PER_REQUEST_MOST * asked, "a storm"
        self.no_request_was_carried_out_twice()
        self.tables_are_bounded()

    @property
    def is_quiet(self) -> bool:
        """Whether every process has a session and every request its answer."""
        return not self.packets and all(
            partition.dialer.established and partition.asked.keys() == partition.answered.keys()
            for partition in self.partitions.values()
        )


class ConnectionExchange(Exchange):
    """Sessions that live as long as their connection, as the console's do."""

    terms = LIFELONG


class FabricExchange(Exchange):
    """Sessions that end with the listener's process, as the NX units' do: then the listener may ask as well."""

    keeps_sessions = False

    @rule(name=Exchange.names, count=st.sampled_from([1, 3, 80]))
    def the_listener_asks(self, name: str, count: int) -> None:
        session = self.server.listener.sessions.get(name)
        if session is None:
            return
        for number in range(count):
            body = QueryConfiguration(generation=number)
            given = self.server.listener.call(session, body, self.now_us)
            self.asked_of[name, session.epoch, given] = body
        self.end_cycle()

    @property
    def is_quiet(self) -> bool:
        sessions = self.server.listener.sessions.values()
        return super().is_quiet and not any(session.caller.outstanding for session in sessions)


STEPS = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestBeatingSessions = Exchange.TestCase
TestBeatingSessions.settings = STEPS
TestConnectionLivedSessions = ConnectionExchange.TestCase
TestConnectionLivedSessions.settings = STEPS
TestSessionsThatEndWithTheListener = FabricExchange.TestCase
TestSessionsThatEndWithTheListener.settings = STEPS
