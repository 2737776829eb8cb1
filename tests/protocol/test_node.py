"""The node loop over real sockets: what reaches the core, what is stored before what is sent, and how it stops."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from protocol.codes import ExitCode
from protocol.effects import Dial, Exit
from protocol.hcall_messages import Configuration, QueryConfiguration
from protocol.node import Node, Store
from protocol.refusals import RefusalCode
from protocol.session_messages import BeatEcho, Hello, Refused
from protocol.wire import Envelope, encode
from tests.protocol.caller import DEADLINE_S, RealCaller
from tests.protocol.counting_node import QUIT, CountingCore, FileStore, FullDisk

ROOT = Path(__file__).parents[2]
QUERY = QueryConfiguration(generation=0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: a socket's path ends at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="vas") as name:
        yield Path(name)


class Running:
    """A node in a thread of this process."""

    def __init__(self, folder: Path, store: Store | None = None, wish: Dial | None = None) -> None:
        self.endpoint = f"ipc://{folder}/hcall"
        self.lines = folder / "store"
        self.core = CountingCore()
        self.core.effects.transmissions += [wish] if wish is not None else []
        self.node = Node(self.core, {"hcall": self.endpoint}, store or FileStore(self.lines))
        self.ending: Exit | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.ending = self.node.run()

    def join(self) -> Exit:
        """Wait for the end."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        assert self.ending is not None
        return self.ending

    def quit(self) -> None:
        """End it, if it has not ended by itself."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context.socket(zmq.DEALER) as socket:
            socket.connect(self.endpoint)
            socket.send_multipart(encode(Envelope(Hello(role="lpar", name=QUIT, incarnation=bytes(16)))))
            self._thread.join(DEADLINE_S)
            socket.close(linger=0)
        context.term()


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
        ((bytes(2 << 20),), RefusalCode.FRAME_SIZE),
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


# Stopping.


def test_a_node_in_a_thread_leaves_the_programs_signal_handlers_alone(running: Running) -> None:
    with RealCaller(running.endpoint) as caller:
        caller.connect()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Program:
    """The counting node as a process of its own."""

    def __init__(self, folder: Path, mode: str = "plain") -> None:
        self.endpoint = f"ipc://{folder}/hcall"
        self.lines = folder / "store"
        self.lines.touch()
        command = [sys.executable, "-m", "tests.protocol.counting_node", self.endpoint, str(self.lines), mode]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.output = self.process.stdout
        assert self.output.readline() == "ready\n"

    def stored(self) -> list[str]:
        return self.lines.read_text().splitlines()

    def until_stored(self, line: str) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while line not in self.stored():
            assert time.monotonic() < end_s, f"never stored: {line}"
            time.sleep(0.01)

    def exit_code(self) -> int:
        return self.process.wait(DEADLINE_S)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.output.close()


@pytest.fixture
def program(folder: Path) -> Iterator[Program]:
    program = Program(folder)
    yield program
    program.end()


@pytest.fixture
def stubborn(folder: Path) -> Iterator[Program]:
    program = Program(folder, "stubborn")
    yield program
    program.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_the_process_in_order(program: Program, number: signal.Signals) -> None:
    program.process.send_signal(number)
    assert program.exit_code() == ExitCode.OK
    assert program.output.read() == "stopped when asked to\n"
    assert program.stored() == ["stopping", "wound up"]


def test_the_second_signal_stops_it_at_once(stubborn: Program) -> None:
    stubborn.process.send_signal(signal.SIGTERM)
    stubborn.until_stored("stopping")
    assert stubborn.process.poll() is None, "it is still winding up"
    stubborn.process.send_signal(signal.SIGTERM)
    assert stubborn.exit_code() == ExitCode.OK
    assert stubborn.output.read() == "stopped at the second signal\n"
    assert stubborn.stored() == ["stopping"]


def test_a_process_that_was_killed_is_replaced_on_the_same_address(folder: Path) -> None:
    first = Program(folder)
    first.end()
    assert Path(first.endpoint.removeprefix("ipc://")).exists(), "the socket's file was left behind"
    second = Program(folder)
    with RealCaller(second.endpoint) as caller:
        caller.connect()
    second.end()


def test_a_listener_that_was_paused_reads_its_messages_before_it_takes_silence_for_death(program: Program) -> None:
    with RealCaller(program.endpoint) as caller:
        caller.connect()
        program.process.send_signal(signal.SIGSTOP)
        paused_s = time.monotonic()
        caller.until(lambda: time.monotonic() > paused_s + 2.5, "the end of a pause of more than two leases")
        program.process.send_signal(signal.SIGCONT)
        caller.received.clear()
        caller.until(lambda: len(caller.bodies(BeatEcho)) >= 3, "echoes")
    assert caller.dialer.session.epoch == 1
    assert not caller.dialer.ended
    assert program.stored() == []
