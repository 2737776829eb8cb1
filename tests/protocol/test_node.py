"""The node loop over real sockets: what reaches the core, and what is stored before what is sent."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import zmq

from protocol.clock import SECOND_US
from protocol.codes import ExitCode
from protocol.effects import Dial
from protocol.hcall_messages import Configuration, QueryConfiguration
from protocol.link import HCALL
from protocol.message import Message
from protocol.node import monotonic_us
from protocol.refusals import RefusalCode
from protocol.session import Terms
from protocol.session_messages import Beat, BeatEcho, Hello, Refused, Welcome
from protocol.socket import BATCH_LIMIT
from protocol.wire import Envelope, decode, encode
from tests.protocol.caller import DEADLINE_S, RealCaller
from tests.protocol.counting_node import FullDisk
from tests.protocol.running import Running

QUERY = QueryConfiguration(generation=0)


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    running = Running(folder)
    yield running
    running.quit()
    assert running.join().code is ExitCode.OK


# Messages.


def test_a_request_is_stored_and_then_answered(running: Running) -> None:
    with RealCaller(running.endpoint) as caller:
        caller.connect()
        for _ in range(100):
            caller.dialer.call(caller.dialer.session, QUERY, 0)
        caller.until(lambda: len(caller.answers()) == 100, "100 answers")
        stored = running.lines.read_text().splitlines()
    assert caller.answers() == [Configuration(generation=count) for count in range(1, 101)]
    assert stored == [f"counted {count}" for count in range(1, 101)]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ((b"",), RefusalCode.GARBAGE),
        ((b"\xc1\xc1",), RefusalCode.GARBAGE),
        ((b"\x91" * 100_000,), RefusalCode.GARBAGE),
        ((b"", b"", b""), RefusalCode.GARBAGE),
        ((bytes((1 << 20) + 1),), RefusalCode.FRAME_SIZE),
        ((*encode(Envelope(QUERY, 1, 1)), b"bytes"), RefusalCode.FRAMES),
    ],
)
def test_garbage_is_refused_by_name_and_the_others_are_served_on(
    running: Running, frames: tuple[bytes, ...], code: RefusalCode
) -> None:
    with RealCaller(running.endpoint, "rude") as rude, RealCaller(running.endpoint, "lp1") as caller:
        rude.connect()
        caller.connect()
        rude.raw(*frames)
        rude.until(lambda: bool(rude.bodies(Refused)), "a refusal")
        caller.dialer.call(caller.dialer.session, QUERY, 0)
        caller.until(lambda: bool(caller.answers()), "an answer")
    (refused,) = [envelope.body for envelope in rude.bodies(Refused)]
    assert isinstance(refused, Refused)
    assert refused.code is code
    assert not rude.dialer.ended


def test_a_flood_of_garbage_does_not_keep_a_session_from_being_served(running: Running) -> None:
    with RealCaller(running.endpoint, "rude") as rude, RealCaller(running.endpoint, "lp1") as caller:
        rude.connect()
        caller.connect()
        for _ in range(3_000):
            rude.raw(b"\xc1")
        caller.dialer.call(caller.dialer.session, QUERY, 0)
        caller.until(lambda: bool(caller.answers()), "an answer during the flood")
        rude.until(lambda: len(rude.bodies(Refused)) >= 500, "refusals")


def test_a_dead_peer_is_reported_and_its_name_is_free_for_the_next_incarnation(running: Running) -> None:
    with RealCaller(running.endpoint) as first:
        first.connect()
    with RealCaller(running.endpoint) as second:
        second.connect()
        assert second.dialer.session.epoch == 2


def test_an_address_that_is_none_does_not_end_the_node(folder: Path) -> None:
    running = Running(folder, wish=Dial("fabric", "tcp://no-port"))
    with RealCaller(running.endpoint) as caller:
        caller.connect()
    running.quit()
    assert running.join().reason == "asked to quit"


# Stored before answered.


def test_a_store_that_fails_stops_the_process_and_nothing_of_that_turn_was_answered(folder: Path) -> None:
    running = Running(folder, FullDisk())
    with RealCaller(running.endpoint) as caller:
        caller.connect()
        caller.dialer.call(caller.dialer.session, QUERY, 0)
        caller.transmit()
        ending = running.join()
        for _ in range(10):
            caller.serve()
    assert (ending.code, ending.reason) == (ExitCode.STORE, "the disk is full")
    assert running.core.count == 1, "the core had carried it out"
    assert caller.answers() == []


def test_a_node_in_a_thread_leaves_the_programs_signal_handlers_alone(running: Running) -> None:
    with RealCaller(running.endpoint) as caller:
        caller.connect()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class StallingStore:
    """A disk that stalls from the moment it is told to until it is let go on."""

    def __init__(self) -> None:
        self.stall = threading.Event()
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.stored: list[object] = []

    def commit(self, writes: Sequence[object]) -> None:
        self.stored += writes
        if self.stall.is_set():
            self.stalled.set()
            assert self.go_on.wait(DEADLINE_S)


def test_a_stall_longer_than_the_lease_ends_none_of_more_sessions_than_one_batch_takes(folder: Path) -> None:
    store = StallingStore()
    asleep_us = [0]
    running = Running(folder, store, clock=lambda: monotonic_us() + asleep_us[0], terms=Terms())
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    callers = [context.socket(zmq.DEALER) for _ in range(2 * BATCH_LIMIT)]

    def say(caller: zmq.Socket[bytes], body: Message, epoch: int = 1, number: int = 0) -> None:
        caller.send_multipart(encode(Envelope(body, epoch, number)))

    def heard(caller: zmq.Socket[bytes]) -> Message:
        assert caller.poll(int(DEADLINE_S * 1000))
        return decode(caller.recv_multipart(), HCALL.down).body

    for number, caller in enumerate(callers):
        caller.connect(running.endpoint)
        say(caller, Hello(role="lpar", name=f"lp{number}", incarnation=bytes(16)), epoch=0)
    assert {type(heard(caller)) for caller in callers} == {Welcome}
    store.stall.set()
    say(callers[0], QUERY, number=1)
    assert store.stalled.wait(DEADLINE_S)
    for caller in callers:
        say(caller, Beat(sequence=1))
    asleep_us[0] = 60 * SECOND_US
    store.stall.clear()
    store.go_on.set()
    assert heard(callers[0]) == Configuration(generation=1)
    assert {type(heard(caller)) for caller in callers} == {BeatEcho}
    assert store.stored == ["counted 1"]
    for caller in callers:
        caller.close(linger=0)
    context.term()
    running.quit()
