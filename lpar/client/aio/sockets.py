"""A client's connections on an event loop: plain ZeroMQ sockets, read when their descriptors say so.

ZeroMQ's descriptor is edge-triggered: it tells that something has changed, once, and both a send and a look at the
socket's events take that word away from whoever waits for it. So one class owns sockets and descriptors, a socket is
drained until it is empty, and it is looked at again after every send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import zmq

from lpar.client.links import link_of
from protocol.effects import Peer
from protocol.key_source import KeySource
from protocol.link import Vocabulary
from protocol.socket import Connections, NodeSocket

TURN_S = 0.002
"""After this long of taking messages the loop's other callbacks get their turn; the message at hand is finished."""


class LoopSockets:
    """Dialled sockets by key. All of it runs in the thread of `loop`.

    `arrived` is told of each message and must leave the sockets alone; `settled` is called after each batch and may
    send, dial and hang up. `owner` is what the program holds: see `Connections`.
    """

    def __init__(
        self,
        owner: object,
        loop: asyncio.AbstractEventLoop,
        arrived: Callable[[str, Vocabulary, list[bytes]], None],
        settled: Callable[[], None],
        keys: KeySource | None = None,
    ) -> None:
        self._loop = loop
        self._arrived = arrived
        self._settled = settled
        self._connections = Connections(owner, keys)
        self._descriptors: dict[str, int] = {}
        self._scheduled: dict[str, asyncio.Handle] = {}

    def dial(self, key: str, endpoint: str, listener: str = "") -> None:
        """Connect, in place of the connection of that key. Raises zmq.ZMQError for what is no endpoint, KeysError."""
        self.hang_up(key)
        socket = self._connections.dial(key, link_of(key), endpoint, listener)
        descriptor = int(socket.zmq.get(zmq.FD))
        self._descriptors[key] = descriptor
        self._loop.add_reader(descriptor, self._serve, key)
        self._look_again(key, socket)

    def hang_up(self, key: str) -> None:
        """Close the connection of that key, if there is one. Its descriptor must not outlive it in the loop."""
        descriptor = self._descriptors.pop(key, None)
        if descriptor is not None and not self._loop.is_closed():
            self._loop.remove_reader(descriptor)
        handle = self._scheduled.pop(key, None)
        if handle is not None:
            handle.cancel()
        self._connections.hang_up(key)

    def send(self, key: str, peer: Peer, frames: Sequence[bytes]) -> None:
        """Send, or queue what the connection cannot take yet. Without a connection it is lost, as on any network.

        Raises KeyRefused where none comes about because of the keys.
        """
        socket = self._connections.sockets.get(key)
        if socket is not None:
            socket.send(peer, frames)
            self._look_again(key, socket)

    def close(self) -> None:
        """Close everything. A second call does nothing."""
        for key in list(self._descriptors):
            self.hang_up(key)
        self._connections.close()

    def _serve(self, key: str) -> None:
        """Take what has arrived, and send what waited for room."""
        self._scheduled.pop(key, None)
        socket = self._connections.sockets[key]
        until = self._loop.time() + TURN_S
        for _peer, frames in socket.receive():
            self._arrived(key, socket.vocabulary, frames)
            if self._loop.time() >= until:
                break
        socket.flush()
        self._settled()
        if self._connections.sockets.get(key) is socket:
            self._look_again(key, socket)

    def _look_again(self, key: str, socket: NodeSocket) -> None:
        """See to it that nothing waits for a word from the descriptor that was taken away."""
        if key not in self._scheduled and _has_work(socket):
            self._scheduled[key] = self._loop.call_soon(self._serve, key)


def _has_work(socket: NodeSocket) -> bool:
    events = int(socket.zmq.get(zmq.EVENTS))
    return bool(events & zmq.POLLIN) or (socket.has_waiting and bool(events & zmq.POLLOUT))
