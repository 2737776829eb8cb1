"""Exactly once in effect, on the worst network: messages lost, doubled, delayed and reordered, processes killed."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.hcall_messages import QueryConfiguration
from protocol.session_messages import Hello
from tests.protocol.bench import LIFELONG, Packet
from tests.protocol.world import World

NAMES = ("lp1", "lp2")
HEALED_WITHIN_US = 20 * SECOND_US
"""A lease and its margin for a name that somebody else had, then HELLO, then the answers."""
MESSAGES_PER_REQUEST_MOST = 40
DURATIONS_US = (MILLISECOND_US, 400 * MILLISECOND_US, SECOND_US, 3 * SECOND_US, 11 * SECOND_US)


class Exchange(World, RuleBasedStateMachine):
    """Sessions that beat and that the listener keeps across restarts, as the hypervisor keeps its partitions'."""

    @initialize()
    def start(self) -> None:
        for name in NAMES:
            self.start_partition(name)
        while self.packets:
            self.deliver(0)

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
        self.answer(call)

    @rule(duration_us=st.sampled_from(DURATIONS_US))
    def time_passes(self, duration_us: int) -> None:
        self.now_us += duration_us
        self.tick()

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
        on_the_way, delivered = len(self.packets), 0
        while not self.is_quiet:
            while self.packets:
                self.deliver(0)
                delivered += 1
            while self.server.put_off:
                self.answer(self.server.put_off.pop())
            if self.packets or self.is_quiet:
                continue
            wake_us = self.wake_us()
            assert wake_us is not None, "somebody waits for an answer and nobody will wake"
            self.now_us = max(self.now_us, wake_us)
            assert self.now_us <= limit_us, "a request was not answered after the network had healed"
            self.tick()
        asked = sum(len(partition.asked) for partition in self.partitions.values()) + len(self.asked_of)
        assert delivered <= on_the_way + 1_000 + MESSAGES_PER_REQUEST_MOST * asked, "a storm"
        self.no_request_was_carried_out_twice()
        self.tables_are_bounded()


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


STEPS = settings(max_examples=250, stateful_step_count=50, deadline=None)
TestBeatingSessions = Exchange.TestCase
TestBeatingSessions.settings = STEPS
TestConnectionLivedSessions = ConnectionExchange.TestCase
TestConnectionLivedSessions.settings = STEPS
TestSessionsThatEndWithTheListener = FabricExchange.TestCase
TestSessionsThatEndWithTheListener.settings = STEPS
