"""The one place that owns ZeroMQ sockets: their options, their queues, their closing.

A socket is drained until empty or until a batch is full; the caller then looks again without waiting, so that the
edge-triggered descriptor cannot hide a message.
"""

from __future__ import annotations

import ctypes
import os
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import zmq

from protocol.curve import HandshakeWatch, dial_with, listen_with
from protocol.effects import DIALLED, Peer
from protocol.endpoint import is_ipv6, is_tcp
from protocol.key_source import KeySource, keyring_of, source_of
from protocol.keys import Keyring, KeysError
from protocol.link import BULK_LIMIT_BYTES, MEBIBYTE, PASTE, UNREAD_LIMIT, Link
from protocol.session_messages import Hello
from protocol.stale_socket import bind

BATCH_LIMIT = 64
"""Messages taken from one socket before the others get their turn."""
DRAIN_US = 1_000
"""And how long that may take: what comes on one link does not wait for the whole flood on another."""
HEARTBEAT_INTERVAL_MS = 500
HEARTBEAT_TIMEOUT_MS = 1500
"""Who dials pings, and says with each ping for how long the listener need not hear from it (the time to live).

A listener pings nobody. libzmq 4.3.5 ends the process that pings a connection which has broken off behind a full queue
(`!_io_error`, stream_engine_base.cpp; its issues 3596 and 3937 are of the kind): whoever floods a listener and is
killed would take it along. It is the same with the answer to a ping, so that where queues are short, for pastes,
nobody pings: their requests have deadlines.
"""
KEEPALIVE_S = 1
KEEPALIVE_PROBES = 3
"""A host that is gone without a word is noticed by tcp itself."""
ROUTING_ID_BYTES = 16
HANDSHAKE_MS = 5_000
"""How long a connection may take to say who it is: until then it costs a descriptor and one frame's memory."""
DIALLED_FRAME_BYTES = BULK_LIMIT_BYTES + MEBIBYTE
"""From whom a process has dialled it takes what it asked for."""
SEED_BYTES = 4
"""What srand() takes."""
RECONNECT_FIRST_MS = 20
RECONNECT_MOST_MS = 100
"""How long a listener that is back may stay unnoticed: everybody who was connected waits for a hypervisor."""


class Unreachable(Exception):
    """The peer of this message has no connection any more."""


def seed_routing_ids() -> None:
    """Make the routing ids that the next listening socket gives out unguessable.

    libzmq 4.3.5 counts them from C's rand(), which it never seeds: each process would begin with the same one. Who
    knows the next one could choose it and end the process, or take that of a connection that is gone.
    """
    ctypes.CDLL(None).srand(int.from_bytes(os.urandom(SEED_BYTES), "little"))


def new_routing_id() -> bytes:
    """What a dialling socket is called at its listener, also after ZeroMQ has made a broken connection again.

    Nobody else can know it: whoever had it could take the connection's place. A leading 0 is libzmq's own.
    """
    return b"v" + os.urandom(ROUTING_ID_BYTES)


class NodeSocket:
    """A ROUTER that listens or a DEALER that dials, with every limit set.

    What a slow peer cannot take yet waits in a queue of `link.high_water_mark` messages per peer; beyond that the
    oldest is dropped and counted, and the sessions repeat what mattered.

    `guarded`: it listens for connections with keys, and their HELLO has to fit them. `sender` is then the public key
    of the connection of the message received last.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], link: Link, kind: int) -> None:
        self.link = link
        self.is_router = kind == zmq.ROUTER
        self.vocabulary = link.up if self.is_router else link.down
        self.dropped = 0
        self.guarded = False
        self.sender = ""
        self._watch: HandshakeWatch | None = None
        self._waiting: dict[Peer, deque[list[bytes]]] = {}
        self.zmq = context.socket(kind)
        self.zmq.setsockopt(zmq.LINGER, 0)
        self.zmq.setsockopt(zmq.SNDHWM, link.high_water_mark)
        self.zmq.setsockopt(zmq.RCVHWM, link.high_water_mark if self.is_router else UNREAD_LIMIT)
        self.zmq.setsockopt(zmq.MAXMSGSIZE, link.frame_limit_bytes if self.is_router else DIALLED_FRAME_BYTES)
        self.zmq.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self.zmq.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_S)
        self.zmq.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_S)
        self.zmq.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES)
        if not self.is_router and link is not PASTE:
            self.zmq.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
            self.zmq.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
            self.zmq.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
        self.zmq.setsockopt(zmq.RECONNECT_IVL, RECONNECT_FIRST_MS)
        self.zmq.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST_MS)
        if self.is_router:
            self.zmq.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self.zmq.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
            self.zmq.setsockopt(zmq.ROUTER_HANDOVER, 1)
        elif kind == zmq.DEALER:
            self.zmq.setsockopt(zmq.ROUTING_ID, new_routing_id())

    @classmethod
    def listen(
        cls, context: zmq.Context[zmq.Socket[bytes]], link: Link, endpoint: str, keyring: Keyring | None = None
    ) -> NodeSocket:
        """Bind; with a keyring, tcp is for keys alone. Raises zmq.ZMQError: EndpointTaken where somebody listens."""
        seed_routing_ids()
        socket = cls(context, link, zmq.ROUTER)
        socket.zmq.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        if keyring is not None and is_tcp(endpoint):
            listen_with(socket.zmq, keyring, link.name)
            socket.guarded = Hello in link.up.messages
        try:
            bind(socket.zmq, endpoint)
        except zmq.ZMQError:
            socket.close()
            raise
        return socket

    @classmethod
    def dial(
        cls,
        context: zmq.Context[zmq.Socket[bytes]],
        link: Link,
        endpoint: str,
        keyring: Keyring | None = None,
        listener: str = "",
    ) -> NodeSocket:
        """Connect; ZeroMQ keeps trying in the background. `listener` is the name of an NX unit, for its key.

        Raises zmq.ZMQError where the endpoint is no address, KeysError where the keyring has no key for it.
        """
        socket = cls(context, link, zmq.DEALER)
        socket.zmq.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        try:
            expected: tuple[str, ...] = ()
            if keyring is not None and is_tcp(endpoint):
                expected = dial_with(socket.zmq, keyring, link.name, listener)
            socket._watch = HandshakeWatch.of(socket.zmq, endpoint, keyring, expected)
            socket.zmq.connect(endpoint)
        except (zmq.ZMQError, KeysError):
            socket.close()
            raise
        return socket

    def receive(self, enough: Callable[[], bool] = lambda: False) -> Iterator[tuple[Peer, list[bytes]]]:
        """Up to BATCH_LIMIT waiting messages; none more as soon as it is `enough`."""
        for _ in range(BATCH_LIMIT):
            if enough() or not self.readable:
                return
            if self.guarded:
                yield self._receive_signed()
                continue
            frames = self.zmq.recv_multipart(zmq.NOBLOCK)
            if self.is_router:
                yield frames[0], frames[1:]
            else:
                yield DIALLED, frames

    def _receive_signed(self) -> tuple[Peer, list[bytes]]:
        """Only a frame that is not copied tells whose connection it came on."""
        first = self.zmq.recv(zmq.NOBLOCK, copy=False)
        self.sender = str(first.get("User-Id"))
        return first.bytes, self.zmq.recv_multipart(zmq.NOBLOCK)

    @property
    def readable(self) -> bool:
        """Whether a message waits. Asking is far cheaper than a receive that fails with EAGAIN."""
        return bool(int(self.zmq.get(zmq.EVENTS)) & zmq.POLLIN)

    def send(self, peer: Peer, frames: Sequence[bytes]) -> None:
        """Send or queue. Raises Unreachable where the peer's connection is gone, KeyRefused where none comes about."""
        if self._watch is not None:
            self._watch.check()
        parts = [peer, *frames] if self.is_router else list(frames)
        waiting = self._waiting.get(peer)
        if waiting:
            self._enqueue(peer, parts)
            return
        try:
            self.zmq.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            self._enqueue(peer, parts)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            raise Unreachable from None

    def flush(self) -> list[Peer]:
        """Send what waited for room. Returns the peers that turned out to be gone.

        libzmq lets go of a dead peer's full pipe only when its end has been read: call `receive` as well.
        """
        gone: list[Peer] = []
        for peer, waiting in list(self._waiting.items()):
            try:
                while waiting:
                    self.zmq.send_multipart(waiting[0], zmq.NOBLOCK)
                    waiting.popleft()
            except zmq.Again:
                continue
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                gone.append(peer)
            del self._waiting[peer]
        return gone

    @property
    def has_waiting(self) -> bool:
        """Whether messages wait for room."""
        return bool(self._waiting)

    def close(self) -> None:
        """Close at once; whoever needs delivery has said BYE and heard the answer before."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self.zmq.close(linger=0)

    def _enqueue(self, peer: Peer, parts: list[bytes]) -> None:
        waiting = self._waiting.setdefault(peer, deque())
        if len(waiting) >= self.link.high_water_mark:
            waiting.popleft()
            self.dropped += 1
        waiting.append(parts)


class Connections:
    """The dialled sockets of a client and the context that they share; its keys, where it has any.

    `owner` is what the program holds. When that is collected without having been closed, the sockets are closed all
    the same and a ResourceWarning says so: a context that still has sockets would wait for them for ever.
    """

    def __init__(self, owner: object, keys: KeySource | Keyring | None = None) -> None:
        self._keys = source_of(keys)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.sockets: dict[str, NodeSocket] = {}
        name = type(owner).__name__
        self._finalizer = weakref.finalize(owner, _abandon, name, os.getpid(), self.sockets, self.context)
        self._finalizer.atexit = False

    def dial(self, key: str, link: Link, endpoint: str, listener: str = "") -> NodeSocket:
        """Connect, in place of the connection of that key, with the public keys that the key file has by now.

        Raises zmq.ZMQError for what is no endpoint, KeysError.
        """
        self.hang_up(key)
        if self._keys is not None:
            self._keys.refresh()
        self.sockets[key] = NodeSocket.dial(self.context, link, endpoint, keyring_of(self._keys), listener)
        return self.sockets[key]

    def hang_up(self, key: str) -> None:
        """Close the connection of that key, if there is one."""
        socket = self.sockets.pop(key, None)
        if socket is not None:
            socket.close()

    def close(self) -> None:
        """Close everything. A second call does nothing."""
        if self._finalizer.detach() is not None:
            for key in list(self.sockets):
                self.hang_up(key)
            self.context.term()


def _abandon(name: str, pid: int, sockets: dict[str, NodeSocket], context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Close what a collected owner left open; in a forked child the sockets are the parent's."""
    if os.getpid() != pid:
        return
    for socket in sockets.values():
        socket.close()
    context.term()
    warnings.warn(f"a {name} was not closed", ResourceWarning, stacklevel=2)
