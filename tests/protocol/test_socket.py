"""The socket's owner: addresses that are free, taken or abandoned, and peers that read slowly or not at all."""

from __future__ import annotations

import fcntl
import os
import socket as unix
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq

from protocol.effects import DIALLED
from protocol.link import HCALL, PASTE, Link
from protocol.socket import BATCH_LIMIT, KEEPALIVE_PROBES, KEEPALIVE_S, NodeSocket, Unreachable
from protocol.stale_socket import EndpointTaken, remove_stale_socket
from tests.security.system import local

Context = zmq.Context[zmq.Socket[bytes]]
DEADLINE_S = 10.0
TARGET = bytes(1 << 20)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vas") as name:
        yield Path(name) / "socket"


class Sockets:
    """Opens sockets at one address and closes them all."""

    def __init__(self, path: Path) -> None:
        self.endpoint = f"ipc://{path}"
        self.context: Context = zmq.Context()
        self.opened: list[NodeSocket] = []

    def listen(self, link: Link = PASTE) -> NodeSocket:
        self.opened.append(NodeSocket.listen(self.context, link, self.endpoint))
        return self.opened[-1]

    def dial(self, link: Link = PASTE) -> NodeSocket:
        self.opened.append(NodeSocket.dial(self.context, link, self.endpoint))
        return self.opened[-1]

    def close(self) -> None:
        for socket in self.opened:
            socket.close()
        self.context.term()


@pytest.fixture
def sockets(path: Path) -> Iterator[Sockets]:
    sockets = Sockets(path)
    yield sockets
    sockets.close()


def until(reached: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < end_s, f"not in {DEADLINE_S:g} s: {what}"
        time.sleep(0.002)


def received(socket: NodeSocket) -> tuple[bytes, list[bytes]]:
    """The next message."""
    until(lambda: socket.readable, "a message")
    return next(socket.receive())


# Addresses.


def test_the_file_of_a_killed_process_is_taken_over(sockets: Sockets, path: Path) -> None:
    with unix.socket(unix.AF_UNIX) as abandoned:
        abandoned.bind(str(path))
        abandoned.listen()
    assert path.exists()
    listener = sockets.listen(HCALL)
    dialer = sockets.dial(HCALL)
    dialer.send(DIALLED, [b"hello"])
    assert received(listener)[1] == [b"hello"]


def test_an_address_where_somebody_listens_is_in_use_and_stays_his(sockets: Sockets) -> None:
    first = sockets.listen(HCALL)
    with pytest.raises(zmq.ZMQError) as caught:
        sockets.listen(HCALL)
    assert caught.value.errno == zmq.EADDRINUSE
    dialer = sockets.dial(HCALL)
    dialer.send(DIALLED, [b"hello"])
    assert received(first)[1] == [b"hello"]


def test_of_two_that_take_the_file_of_a_killed_process_over_at_the_same_time_one_has_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each finds the file stale, and removes it when the other one has found it stale as well, if that can be."""
    with unix.socket(unix.AF_UNIX) as abandoned:
        abandoned.bind(str(path))
        abandoned.listen()
    both_found, unlink = threading.Barrier(2), Path.unlink
    listening: list[NodeSocket] = []
    refused: list[zmq.ZMQError] = []

    def unlink_late(file: Path, missing_ok: bool = False) -> None:
        with suppress(threading.BrokenBarrierError):
            both_found.wait(0.3)
        unlink(file, missing_ok)

    def start() -> None:
        try:
            listening.append(NodeSocket.listen(context, HCALL, f"ipc://{path}"))
        except zmq.ZMQError as error:
            refused.append(error)

    monkeypatch.setattr(Path, "unlink", unlink_late)
    context: Context = zmq.Context()
    starts = [threading.Thread(target=start) for _ in range(2)]
    for each in starts:
        each.start()
    for each in starts:
        each.join(DEADLINE_S)
    monkeypatch.undo()
    for socket in listening:
        socket.close()
    context.term()
    assert [error.errno for error in refused] == [zmq.EADDRINUSE]
    assert len(listening) == 1


def test_a_start_that_does_not_end_is_not_waited_for_for_ever(
    sockets: Sockets, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protocol.stale_socket.LOCK_WAIT_S", 0.05)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(EndpointTaken, match=r"another process has been starting there for 0\.05 s"):
            sockets.listen(HCALL)
    finally:
        os.close(folder)
    assert sockets.listen(HCALL).zmq is not None


def test_an_address_whose_owner_is_too_busy_to_accept_is_in_use(path: Path) -> None:
    with unix.socket(unix.AF_UNIX) as owner:
        owner.bind(str(path))
        owner.listen(0)
        callers = [unix.socket(unix.AF_UNIX)]
        while callers[-1].connect_ex(str(path)) == 0:
            callers.append(unix.socket(unix.AF_UNIX))
            callers[-1].setblocking(False)
        with pytest.raises(zmq.ZMQError) as caught:
            remove_stale_socket(f"ipc://{path}")
        for caller in callers:
            caller.close()
    assert caught.value.errno == zmq.EADDRINUSE
    assert path.exists()


def test_a_file_that_is_no_socket_is_never_removed(sockets: Sockets, path: Path) -> None:
    path.write_text("somebody's letters")
    with pytest.raises(zmq.ZMQError) as caught:
        sockets.listen(HCALL)
    assert caught.value.errno == zmq.EADDRINUSE
    assert path.read_text() == "somebody's letters"


def test_a_free_address_needs_nothing(path: Path) -> None:
    remove_stale_socket(f"ipc://{path}")
    remove_stale_socket("tcp://127.0.0.1:1")


@pytest.mark.parametrize("endpoint", ["tcp://no-port", "carrier-pigeon://home"])
def test_an_address_that_is_none_leaves_no_socket_behind(endpoint: str) -> None:
    context: Context = zmq.Context()
    with pytest.raises(zmq.ZMQError):
        NodeSocket.dial(context, HCALL, endpoint)
    with pytest.raises(zmq.ZMQError):
        NodeSocket.listen(context, HCALL, endpoint)
    context.term()


# Peers.


def descriptor_of(monitor: zmq.Socket[bytes]) -> int:
    """That of the connection which the next event is about."""
    assert monitor.poll(int(DEADLINE_S * 1000))
    _event, descriptor = struct.unpack("=HI", monitor.recv_multipart()[0])
    assert isinstance(descriptor, int)
    return descriptor


def test_a_host_that_is_gone_without_a_word_is_noticed_by_tcp_at_either_end() -> None:
    context: Context = zmq.Context()
    endpoint = local()
    listening, dialling = NodeSocket.listen(context, HCALL, endpoint), NodeSocket(context, HCALL, zmq.DEALER)
    ends = [listening, dialling]
    monitors = [end.zmq.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED) for end in ends]
    dialling.zmq.connect(endpoint)
    try:
        for monitor in monitors:
            with unix.socket(fileno=os.dup(descriptor_of(monitor))) as connection:
                assert connection.getsockopt(unix.SOL_SOCKET, unix.SO_KEEPALIVE) == 1
                waits = [
                    connection.getsockopt(unix.IPPROTO_TCP, option)
                    for option in (unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT)
                ]
                assert waits == [KEEPALIVE_S, KEEPALIVE_S, KEEPALIVE_PROBES]
    finally:
        for end, monitor in zip(ends, monitors, strict=True):
            end.zmq.disable_monitor()
            monitor.close(linger=0)
            end.close()
        context.term()


@pytest.fixture
def listener(sockets: Sockets) -> NodeSocket:
    return sockets.listen()


def peer_of(listener: NodeSocket, dialer: NodeSocket) -> bytes:
    """How the listener knows the dialer's connection."""
    dialer.send(DIALLED, [b"hello"])
    return received(listener)[0]


def test_every_connection_has_a_name_of_its_own(sockets: Sockets, listener: NodeSocket) -> None:
    dialers = [sockets.dial() for _ in range(3)]
    assert len({peer_of(listener, dialer) for dialer in dialers}) == 3


def test_a_message_for_nobody_is_unreachable(listener: NodeSocket) -> None:
    with pytest.raises(Unreachable):
        listener.send(b"nobody", [b"answer"])
    assert not listener.has_waiting


def test_a_connection_that_was_closed_becomes_unreachable(sockets: Sockets, listener: NodeSocket) -> None:
    dialer = sockets.dial()
    peer = peer_of(listener, dialer)
    dialer.close()

    def gone() -> bool:
        try:
            listener.send(peer, [b"probe"])
        except Unreachable:
            return True
        return peer in listener.flush()

    until(gone, "the end of the connection")


def test_a_batch_ends_so_that_other_sockets_get_their_turn(sockets: Sockets) -> None:
    listener = sockets.listen(HCALL)
    dialer = sockets.dial(HCALL)
    for number in range(2 * BATCH_LIMIT):
        dialer.send(DIALLED, [b"%d" % number])
    taken: list[list[bytes]] = []
    while len(taken) < 2 * BATCH_LIMIT:
        until(lambda: listener.readable, "a message")
        batch = [frames for _, frames in listener.receive()]
        assert len(batch) <= BATCH_LIMIT
        taken += batch
    assert taken == [[b"%d" % number] for number in range(2 * BATCH_LIMIT)]


def test_a_peer_that_never_reads_fills_a_bounded_queue_and_what_falls_out_is_counted(
    sockets: Sockets, listener: NodeSocket
) -> None:
    slow, other = (sockets.dial() for _ in range(2))
    slow_peer, other_peer = peer_of(listener, slow), peer_of(listener, other)
    sent = 40
    for number in range(sent):
        listener.send(slow_peer, [b"%d" % number, TARGET])
        listener.flush()
    assert listener.has_waiting
    assert listener.dropped > 0

    listener.send(other_peer, [b"for you"])
    assert received(other)[1] == [b"for you"], "another peer does not notice"

    arrived: list[int] = []

    def read_on() -> bool:
        listener.flush()
        arrived.extend(int(frames[0]) for _, frames in slow.receive())
        return len(arrived) == sent - listener.dropped

    until(read_on, "everything that was not dropped")
    assert not listener.has_waiting
    assert arrived == sorted(arrived)
    assert arrived[-PASTE.high_water_mark :] == list(range(sent - PASTE.high_water_mark, sent)), (
        "the oldest are dropped"
    )


def test_what_waits_for_a_peer_that_dies_is_given_up(sockets: Sockets, listener: NodeSocket) -> None:
    slow = sockets.dial()
    peer = peer_of(listener, slow)
    for _ in range(20):
        listener.send(peer, [TARGET])
    assert listener.has_waiting
    slow.close()

    def turn() -> bool:
        assert list(listener.receive()) == []
        listener.flush()
        return not listener.has_waiting

    until(turn, "the end of the queue")
