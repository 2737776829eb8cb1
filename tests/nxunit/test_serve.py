"""The unit as a process: real sockets, the real engine, signals and exit codes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from protocol import fabric_messages as fabric
from protocol.codes import CompletionCode, CreditType, ExitCode, FunctionCode
from protocol.effects import Effects, Send
from protocol.link import FABRIC, PASTE
from protocol.listener import Listener
from protocol.message import Message
from protocol.node import monotonic_us
from protocol.paste_messages import Crb, Paste, PasteCompleted
from protocol.session import Answered, Called, Event
from protocol.socket import NodeSocket
from protocol.system import local_addresses, parse_system
from protocol.wire import Envelope, decode, encode
from tests.nxunit.jobs import TEXT, raw_inflate

DEADLINE_US = 20_000_000
TOKEN = b"a window's token"
SYSTEM = """
[limits]
memory_mb = 512
[[chip]]
number = 0
unit = "nx0"
cores = 2
[[lpar]]
name = "lp1"
cores = 1
"""
PROCESS = """
import sys
from nxunit.serve import serve
from protocol.system import local_addresses, parse_system
system = parse_system(sys.argv[1], "test")
ending = serve(system, local_addresses(system, sys.argv[2]), sys.argv[3])
print("ended:", ending.reason)
sys.exit(int(ending.code))
"""


def start(folder: str, unit: str = "nx0") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, SYSTEM, folder, unit]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder with a path short enough for sockets."""
    path = tempfile.mkdtemp(prefix="nx")
    yield path
    shutil.rmtree(path)


class Surroundings:
    """What a unit talks to: a hypervisor's listener and one client."""

    def __init__(self, folder: str) -> None:
        self.system = parse_system(SYSTEM, "test")
        addresses = local_addresses(self.system, folder)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.fabric = NodeSocket.listen(self.context, FABRIC, addresses.fabric)
        self.client = NodeSocket.dial(self.context, PASTE, addresses.paste["nx0"])
        self.effects = Effects()
        times = self.system.times
        terms = times.terms(times.fence_ms, by_beats=True)
        self.hypervisor = Listener("fabric", terms, self.effects, os.urandom)
        self.events: list[Event] = []
        self.told: list[Envelope] = []

    def close(self) -> None:
        self.fabric.close()
        self.client.close()
        self.context.term()

    def pump(self, until: Callable[[], bool]) -> None:
        """Carry messages until something holds; fails at the deadline."""
        end_us = monotonic_us() + DEADLINE_US
        poller = zmq.Poller()
        poller.register(self.fabric.zmq, zmq.POLLIN)
        poller.register(self.client.zmq, zmq.POLLIN)
        while not until():
            assert monotonic_us() < end_us, "nothing came before the deadline"
            for transmission in self.effects.take().transmissions:
                if isinstance(transmission, Send):
                    self.fabric.send(transmission.peer, encode(transmission.envelope))
            poller.poll(20)
            for peer, frames in self.fabric.receive():
                self._hear(self.hypervisor.receive(peer, decode(frames, FABRIC.up), monotonic_us()))
            self.told += [decode(frames, PASTE.down) for _, frames in self.client.receive()]
            self._hear(self.hypervisor.tick(monotonic_us()))

    def _hear(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Called):
                self.hypervisor.answer(event.session, event.number, fabric.UnitNoted())

    def wait_for_ready(self) -> None:
        self.pump(lambda: any(isinstance(event, Called) for event in self.events))

    def ask(self, request: fabric.ProgramContext | fabric.CloseContext) -> Message:
        number = self.hypervisor.call(self.hypervisor.sessions["nx0"], request, monotonic_us())
        answers: list[Message] = []

        def answered() -> bool:
            answers.extend(
                event.reply for event in self.events if isinstance(event, Answered) and event.number == number
            )
            return bool(answers)

        self.pump(answered)
        return answers[0]

    def program(self, window_id: int) -> None:
        reply = self.ask(
            fabric.ProgramContext(
                window_id=window_id, lpar="lp1", credit_type=CreditType.DEFAULT, window_credits=1, process_id=1,
                token=TOKEN,
            )
        )  # fmt: skip
        assert reply == fabric.ContextProgrammed(window_id=window_id, accepted=True)

    def paste(self, number: int, source: bytes) -> tuple[PasteCompleted, bytes]:
        crb = Crb(function=FunctionCode.COMPRESS_DHT, target_bytes=2 << 20)
        body = Paste(window_id=1, token=TOKEN, number=number, crb=crb)
        self.told.clear()
        self.client.send(b"", encode(Envelope(body, frames=(source,))))
        self.pump(lambda: len(self.told) == 2)
        assert self.told[0].body.type == "paste_accepted"
        completed = self.told[1].body
        assert isinstance(completed, PasteCompleted)
        return completed, self.told[1].frames[0]


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=20)
    return process.returncode, output


def test_a_unit_compresses_over_the_bus_and_stops_when_asked(folder: str) -> None:
    around = Surroundings(folder)
    process = start(folder)
    try:
        around.wait_for_ready()
        around.program(1)
        for number, source in ((1, TEXT[: 1 << 20]), (2, TEXT[:100])):
            completed, target = around.paste(number, source)
            assert completed.csb.code in (CompletionCode.OK, CompletionCode.TPBC_GREATER)
            assert completed.csb.crc32 == zlib.crc32(source)
            assert raw_inflate(target) == source
        closed = around.ask(fabric.CloseContext(window_id=1))
        assert closed == fabric.ContextClosed(window_id=1, bytes_processed=(1 << 20) + 100)
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert f"{512 << 20}" in next(line for line in limits.splitlines() if line.startswith("Max data size"))
        process.send_signal(signal.SIGTERM)
        around.pump(lambda: process.poll() is not None)  # until then its BYE has to be answered
        assert not around.hypervisor.sessions
        assert end(process)[0] == ExitCode.OK
    finally:
        process.kill()
        process.wait()
        around.close()


def test_a_second_process_at_the_same_address_says_so(folder: str) -> None:
    around = Surroundings(folder)
    first, second = start(folder), None
    try:
        around.wait_for_ready()
        second = start(folder)
        code, output = end(second)
        assert code == ExitCode.ADDRESS_IN_USE
        assert "nx0.paste" in output
        first.send_signal(signal.SIGTERM)
        around.pump(lambda: first.poll() is not None)
        assert not around.hypervisor.sessions
        assert end(first)[0] == ExitCode.OK
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()
        around.close()


def test_a_unit_started_again_in_its_place_proves_that_the_killed_one_is_gone(folder: str) -> None:
    ready: list[fabric.UnitReady] = []
    for _ in range(2):
        around = Surroundings(folder)
        process = start(folder)
        try:
            around.wait_for_ready()
            calls = [event.body for event in around.events if isinstance(event, Called)]
            ready += [body for body in calls if isinstance(body, fabric.UnitReady)]
        finally:
            process.kill()
            end(process)
            around.close()
    first, second = ready
    assert len(first.guard) == 16
    assert first.guard == second.guard


def test_a_unit_the_system_does_not_have_is_a_settings_error(folder: str) -> None:
    code, output = end(start(folder, "nx7"))
    assert code == ExitCode.SETTINGS
    assert "nx7" in output
    assert "nx0" in output


def test_a_unit_without_a_hypervisor_stops_all_the_same(folder: str) -> None:
    process = start(folder)
    try:
        client = zmq.Context()
        socket = NodeSocket.dial(client, PASTE, f"ipc://{folder}/nx0.paste")
        body = Paste(window_id=1, token=TOKEN, number=1, crb=Crb(function=0, target_bytes=1))
        socket.send(b"", encode(Envelope(body, frames=(b"",))))
        assert socket.zmq.poll(20_000), "no answer before the deadline"
        assert decode(socket.zmq.recv_multipart(), PASTE.down).body.type == "paste_faulted"
        socket.close()
        client.term()
        process.send_signal(signal.SIGTERM)
        assert end(process)[0] == ExitCode.OK
    finally:
        process.kill()
        process.wait()


def test_the_memory_ceiling_stays_below_a_hard_limit_already_there() -> None:
    program = (
        "import resource; from protocol.memory import limit_memory\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20)); limit_memory(512)\n"
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert int(run.stdout) == 300 << 20
