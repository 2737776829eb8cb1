"""ZeroMQ's edge-triggered descriptor on an event loop: no message waits unread, none holds up the loop."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from lpar.client.aio import sockets as aio_sockets
from lpar.client.aio.sockets import LoopSockets
from lpar.client.links import DEVICE_KEY, paste_key
from protocol.effects import DIALLED
from protocol.link import Vocabulary
from tests.aio.waiting import WAIT_S, eventually

MEBIBYTE = 1 << 20


class Peer:
    """A ROUTER that talks to one client, and blocks until it may be sure of something."""

    def __init__(self, endpoint: str, high_water_mark: int = 1000) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, high_water_mark)
        self.socket.setsockopt(zmq.RCVTIMEO, int(WAIT_S * 1000))
        self.socket.bind(endpoint)
        self.client = b""

    def meet(self) -> None:
        """Take the client's first message."""
        self.client, _text = self.socket.recv_multipart()

    def say(self, *texts: bytes) -> None:
        for text in texts:
            self.socket.send_multipart([self.client, text])

    def close(self) -> None:
        self.socket.close()
        self.context.term()


class Client:
    """LoopSockets with what arrived. `then` is called after each batch, once."""

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.then: Callable[[], None] = lambda: None
        self.sockets = LoopSockets(self, asyncio.get_running_loop(), self._arrived, self._settled)

    def _arrived(self, _key: str, _vocabulary: Vocabulary, frames: list[bytes]) -> None:
        self.texts.append(frames[0])

    def _settled(self) -> None:
        then, self.then = self.then, lambda: None
        then()

    async def has(self, count: int) -> None:
        """Let the loop run until so many messages have arrived."""
        await eventually(lambda: len(self.texts) >= count)

    def zmq_socket(self, key: str = DEVICE_KEY) -> zmq.Socket[bytes]:
        return self.sockets._connections.sockets[key].zmq


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/p"


@pytest.fixture
def peer(endpoint: str) -> Iterator[Peer]:
    listening = Peer(endpoint)
    yield listening
    listening.close()


def word(socket: zmq.Socket[bytes]) -> bool:
    """Whether the descriptor says that something has changed."""
    readable, _writable, _failed = select.select([int(socket.get(zmq.FD))], [], [], 0)
    return bool(readable)


def silent(socket: zmq.Socket[bytes]) -> bool:
    """Take the descriptor's word away; whether it stays away."""
    socket.get(zmq.EVENTS)
    return not word(socket)


def until(holds: Callable[[], bool]) -> None:
    """Wait while the loop stands still."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, "not in time"


async def connected(peer: Peer, endpoint: str) -> Client:
    """A client that has been greeted, with nothing left to read."""
    client = Client()
    client.sockets.dial(DEVICE_KEY, endpoint)
    client.sockets.send(DEVICE_KEY, DIALLED, [b"hello"])
    peer.meet()
    peer.say(b"welcome")
    await eventually(lambda: client.texts == [b"welcome"])
    return client


async def test_a_send_takes_the_descriptors_word_away(peer: Peer, endpoint: str) -> None:
    """The trap itself, on a bare socket: without it the next tests would show nothing."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.connect(endpoint)
    socket.send(b"hello")
    peer.meet()
    until(lambda: not int(socket.get(zmq.EVENTS)) & zmq.POLLIN and not word(socket))
    peer.say(b"unseen")
    until(lambda: word(socket))

    def silenced() -> bool:
        socket.send(b"anything")
        return not word(socket)

    until(silenced)
    assert int(socket.get(zmq.EVENTS)) & zmq.POLLIN
    socket.close(linger=0)
    context.term()


async def test_a_message_that_came_before_a_send_outside_the_callback_is_read(peer: Peer, endpoint: str) -> None:
    client = await connected(peer, endpoint)
    for number in range(50):
        peer.say(b"%d" % number)
        until(lambda: word(client.zmq_socket()))
        client.sockets.send(DEVICE_KEY, DIALLED, [b"request"])
        assert not word(client.zmq_socket())
        await client.has(2 + number)
        assert client.texts[-1] == b"%d" % number
    client.sockets.close()


async def test_a_message_that_comes_between_the_last_look_and_the_return_is_read(peer: Peer, endpoint: str) -> None:
    client = await connected(peer, endpoint)

    def meanwhile() -> None:
        peer.say(b"late")
        until(lambda: bool(int(client.zmq_socket().get(zmq.EVENTS)) & zmq.POLLIN))
        assert not word(client.zmq_socket())

    for number in range(50):
        client.then = meanwhile
        peer.say(b"early")
        await client.has(3 + 2 * number)
    assert client.texts[1:] == [b"early", b"late"] * 50
    client.sockets.close()


async def test_a_message_on_a_connection_that_its_own_batch_made_is_read(peer: Peer, endpoint: str) -> None:
    """The callback of one connection dials another one in its place."""
    client = await connected(peer, endpoint)

    def redial() -> None:
        client.sockets.dial(DEVICE_KEY, endpoint)
        client.sockets.send(DEVICE_KEY, DIALLED, [b"again"])

    client.then = redial
    peer.say(b"go")
    await eventually(lambda: client.texts[-1] == b"go")
    peer.meet()
    peer.say(b"new")
    await eventually(lambda: client.texts[-1] == b"new")
    client.sockets.close()


async def test_a_flood_lets_other_callbacks_in(peer: Peer, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio_sockets, "TURN_S", 0.0)
    client = await connected(peer, endpoint)
    texts = [b"%d" % number for number in range(200)]
    peer.say(*texts)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        if len(client.texts) <= len(texts):
            asyncio.get_running_loop().call_soon(turn)

    turn()
    await eventually(lambda: len(client.texts) > len(texts))
    assert client.texts[1:] == texts
    assert turns >= len(texts), "one message per turn"
    client.sockets.close()


def fill(client: Client, key: str) -> int:
    """Send until two messages wait for room (the limit of the queue is four); how many were sent."""
    socket = client.sockets._connections.sockets[key]
    sent = more = 0
    while more < 2:
        more += socket.has_waiting
        client.sockets.send(key, DIALLED, [b"%d" % sent, bytes(MEBIBYTE)])
        sent += 1
    return sent


@pytest.mark.parametrize("swallowed", [False, True])
async def test_what_waited_for_room_is_sent_when_there_is_some(tmp_path: Path, swallowed: bool) -> None:
    """The descriptor tells of room as it tells of messages, and a send takes that word away just as well."""
    endpoint = f"ipc://{tmp_path}/p"
    peer = Peer(endpoint, high_water_mark=1)
    client = Client()
    key = paste_key(endpoint)
    client.sockets.dial(key, endpoint)
    sent = fill(client, key)
    socket = client.sockets._connections.sockets[key]
    numbers: list[bytes] = []
    if swallowed:
        # Everything that left the queue is read while the loop stands still: there will be no further word.
        while len(numbers) < sent - 3:
            numbers.append(peer.socket.recv_multipart()[1])
        until(lambda: word(client.zmq_socket(key)))
        client.sockets.send(key, DIALLED, [b"%d" % sent, b""])
        sent += 1
        until(lambda: silent(client.zmq_socket(key)))
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    while len(numbers) < sent:
        _client, number, _bulk = await loop.run_in_executor(None, peer.socket.recv_multipart)
        numbers.append(number)
    assert numbers == [b"%d" % number for number in range(sent)]
    assert not socket.dropped
    assert not socket.has_waiting
    client.sockets.close()
    peer.close()


async def test_a_closed_connection_leaves_nothing_in_the_loop(peer: Peer, endpoint: str) -> None:
    loop = asyncio.get_running_loop()
    client = await connected(peer, endpoint)
    descriptor = int(client.zmq_socket().get(zmq.FD))
    peer.say(b"unread")
    until(lambda: word(client.zmq_socket()))
    client.sockets.send(DEVICE_KEY, DIALLED, [b"so that a look is scheduled"])
    client.sockets.hang_up(DEVICE_KEY)
    assert not loop.remove_reader(descriptor)
    client.sockets.send(DEVICE_KEY, DIALLED, [b"lost"])
    client.sockets.hang_up(DEVICE_KEY)
    await asyncio.sleep(0)
    assert client.texts == [b"welcome"]
    client.sockets.close()
    client.sockets.close()
