"""What somebody without a key can do to a tcp socket before the handshake: little, and not for long."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq

from hmc.connection import Console
from protocol import memory
from protocol.codes import ExitCode
from protocol.curve import dial_with
from protocol.key_files import init_keys, load_keys
from protocol.keys import Principal, principals_of
from protocol.link import BODY_LIMIT_BYTES, HCALL, LINKS, MEBIBYTE, PASTE
from protocol.memory import connections_in, limit_descriptors
from protocol.publisher import SUBSCRIPTION_LIMIT_BYTES
from protocol.run import run_node
from protocol.socket import NodeSocket
from protocol.system import parse_system
from tests.failures.rows import failure
from tests.protocol.test_node_metrics import MeasuredCountingCore
from tests.security.system import DEADLINE_S, SYSTEM, Secured, local

Figure = Callable[[str, float, str], None]
ROOT = Path(__file__).parents[2]
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31)
"""ZMTP 3.1's, of a client with the CURVE mechanism (ZeroMQ's RFC 23)."""
STILL_OPEN_S = 0.5


def long_command(size: int) -> bytes:
    """The header of a command with that many bytes to come."""
    return b"\x06" + size.to_bytes(8, "big")


def unfinished(endpoint: str, said: bytes) -> socket.socket:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
    connection.sendall(said)
    return connection


def ended(connection: socket.socket, within_s: float) -> bool:
    """Whether the other side closes it meanwhile."""
    connection.settimeout(within_s)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def limit_of(link: str) -> int:
    return SUBSCRIPTION_LIMIT_BYTES if link == "telemetry" else LINKS[link].frame_limit_bytes


def test_who_announces_more_than_a_link_can_need_is_hung_up_on_before_it_has_shown_a_key(system: Secured) -> None:
    for link, endpoint in system.every_endpoint.values():
        with unfinished(endpoint, GREETING + long_command(limit_of(link) + 1)) as connection:
            assert ended(connection, DEADLINE_S), link
    with unfinished(system.links["hmc"], GREETING + long_command(BODY_LIMIT_BYTES)) as connection:
        assert not ended(connection, STILL_OPEN_S), "an honest size is waited for"


def test_only_pastes_take_frames_of_data() -> None:
    assert {name for name, link in LINKS.items() if link.frame_limit_bytes > 2 * MEBIBYTE} == {"paste"}
    assert all(link.frame_limit_bytes > BODY_LIMIT_BYTES for link in LINKS.values()), "else no refusal could name it"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Somewhere to connect where handshakes have to be fast."""
    monkeypatch.setattr("protocol.socket.HANDSHAKE_MS", 100)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    endpoint = local()
    listening = NodeSocket.listen(context, HCALL, endpoint)
    yield endpoint
    listening.close()
    context.term()


def test_a_connection_that_does_not_finish_its_handshake_is_ended(impatient: str) -> None:
    for said in (b"", GREETING, GREETING + long_command(1000)):
        with unfinished(impatient, said) as connection:
            assert ended(connection, DEADLINE_S)


# How many connections a process takes.


def test_so_many_connections_fit_that_a_frame_of_each_fits_into_the_memory() -> None:
    for link in (HCALL, PASTE):
        for memory_mb in (64, 256, 512, 2048, 1 << 20):
            count = connections_in(memory_mb, link.frame_limit_bytes)
            assert memory.DESCRIPTORS_LEAST <= count <= memory.DESCRIPTORS_MOST
            everything = count + memory.SPARE_DESCRIPTORS
            fits = everything * link.frame_limit_bytes <= (memory_mb - memory.RESERVE_MB) * MEBIBYTE
            assert fits or count == memory.DESCRIPTORS_LEAST
    assert connections_in(2048, HCALL.frame_limit_bytes) > 1500
    assert connections_in(2048, PASTE.frame_limit_bytes) > 300
    assert connections_in(2048, None) == memory.DESCRIPTORS_MOST, "nobody else reaches the sockets in a folder"


@pytest.mark.parametrize(
    ("had", "gets"), [((64, 100_000), 1622), ((64, 1024), 960), ((64, 100), 75), ((64, resource.RLIM_INFINITY), 1622)]
)
def test_a_process_has_as_many_descriptors_as_it_may_and_can_use(
    had: tuple[int, int], gets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: had)
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limits: asked.append(limits))
    limit_descriptors(2048, HCALL.frame_limit_bytes)
    assert asked == [(gets, had[1])]


@failure(
    "security",
    "somebody without a key opens connections and announces long messages on each",
    seen="Who connects meanwhile waits until theirs are ended: five seconds each.",
    lasts="As long as they keep connecting.",
    kept="The process, within its memory; who is connected notices nothing.",
)
def test_connections_without_a_key_do_not_fill_the_memory_of_a_process(tmp_path: Path, figure: Figure) -> None:
    system = SYSTEM + "\n[limits]\nmemory_mb = 192\n"
    (tmp_path / "system.toml").write_text(system)
    init_keys(tmp_path / "keys", principals_of(parse_system(system, "system.toml")))
    hcall, hmc = local(), local()
    words = [sys.executable, "-m", "vasbus", "serve", "hypervisor", "--system", "system.toml", "--runtime", "run"]
    words += ["--ledger", "ledger", "--metrics", "off", "--keys", "keys"]
    words += ["--listen", f"hcall={hcall}", "--listen", f"hmc={hmc}"]
    observer = load_keys(tmp_path / "keys").keyring(Principal.parse("observer"))
    process = subprocess.Popen(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        with Console(hmc, keys=observer) as console, ExitStack() as stack:
            console.system(DEADLINE_S)
            for _ in range(memory.DESCRIPTORS_LEAST * 3 // 2):
                stack.enter_context(unfinished(hcall, GREETING + long_command(MEBIBYTE)))
            assert console.system(DEADLINE_S).system == "secured", "it was connected before"
            began = time.monotonic()
            with Console(hmc, keys=observer) as late:
                assert late.system(2 * DEADLINE_S).system == "secured"
            figure("time until somebody else is connected", time.monotonic() - began, "s")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()


class Exhausted(MeasuredCountingCore):
    """A core for which there is no memory."""

    def start(self, now_us: int) -> None:
        raise MemoryError


def test_at_its_ceiling_of_memory_a_process_ends_with_its_own_code_and_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocol.run.limit_memory", lambda _megabytes: None)
    ending = run_node(Exhausted(), {}, 64, None)
    assert ending.code is ExitCode.MEMORY
    assert "64 MiB" in ending.reason
    assert "limits.memory_mb" in ending.reason


# A key that may only look.


@failure(
    "security",
    "an observer subscribes to topics of hundreds of kilobytes",
    seen="Its connection is ended; nobody else sees anything.",
    lasts="Nothing.",
    kept="Everything.",
)
def test_a_subscription_is_short(system: Secured) -> None:
    """Each byte of a topic is a node of a tree in libzmq, which it walks by recursion."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    subscriber = context.socket(zmq.XSUB)
    monitor = subscriber.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
    try:
        subscriber.setsockopt(zmq.LINGER, 0)
        dial_with(subscriber, system.keyring("observer"), "telemetry")
        subscriber.connect(system.links["telemetry"])
        assert monitor.poll(int(DEADLINE_S * 1000)), "the handshake fits"
        assert monitor.recv_multipart()[0][:2] == int(zmq.EVENT_HANDSHAKE_SUCCEEDED).to_bytes(2, "little")
        subscriber.send(b"\x01" + bytes(200))
        assert not monitor.poll(int(STILL_OPEN_S * 1000)), "a topic of 200 bytes is none too long"
        subscriber.send(b"\x01" + bytes(SUBSCRIPTION_LIMIT_BYTES))
        assert monitor.poll(int(DEADLINE_S * 1000))
        assert monitor.recv_multipart()[0][:2] == int(zmq.EVENT_DISCONNECTED).to_bytes(2, "little")
    finally:
        subscriber.disable_monitor()
        monitor.close(linger=0)
        subscriber.close(linger=0)
        context.term()
