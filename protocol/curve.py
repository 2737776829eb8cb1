"""CURVE on ZeroMQ sockets: which key a socket has, and why a handshake failed."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable

import zmq

from protocol.endpoint import is_tcp
from protocol.keys import Keyring

AUTHENTICATION_FAILED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
PROTOCOL_FAILED = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
BROKEN_OFF = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
WATCHED = AUTHENTICATION_FAILED | PROTOCOL_FAILED | BROKEN_OFF | SUCCEEDED
BROKEN_OFF_MOST = 8
"""Handshakes that the other side may end without a reason: so does a forwarder whose server is being restarted."""
ADVICE = "use a key for this link that `vasbus keys` made for this system"
REVOKED = "it may have been revoked or changed there since this process read its key file, or never been known"
OTHER_KEY = "does the listener have the key that this key file names as its own? Files of two `keys init` do not fit"


class KeyRefused(Exception):
    """No connection comes about because of the keys; the text says what to do.

    `definite`: the listener has said so. Otherwise it may be starting just now behind a forwarder.
    """

    def __init__(self, text: str, *, definite: bool) -> None:
        super().__init__(text)
        self.definite = definite


def listen_with(socket: zmq.Socket[bytes], keyring: Keyring, link: str) -> None:
    """Have a socket take only connections with keys; the context's ZAP handler decides which, by the link's name."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keyring.pair.public)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keyring.pair.secret)
    socket.setsockopt_string(zmq.ZAP_DOMAIN, link)


def dial_with(socket: zmq.Socket[bytes], keyring: Keyring, link: str, listener: str = "") -> tuple[str, ...]:
    """Have a socket show its key, and connect to the right listener only; `listener` names an NX unit.

    Gives the keys that the listener may have, of which the first is expected. Raises KeysError where there is none.
    """
    expected = keyring.server_keys(link, listener)
    socket.setsockopt_string(zmq.CURVE_SERVERKEY, expected[0])
    socket.setsockopt_string(zmq.CURVE_PUBLICKEY, keyring.pair.public)
    socket.setsockopt_string(zmq.CURVE_SECRETKEY, keyring.pair.secret)
    return expected


class HandshakeWatch:
    """Learns why the connections of a dialled tcp socket fail: otherwise a wrong key looks like an absent listener.

    Where the listener may have one of several keys (`expected`) they are tried in turn. `listeners_keys` tells those
    that it may have by now; it is asked when handshakes have been broken off.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        endpoint: str,
        keyring: Keyring | None,
        expected: tuple[str, ...],
        listeners_keys: Callable[[], tuple[str, ...]] | None = None,
    ) -> None:
        self._socket = socket
        self._expected = expected
        self._listeners_keys = listeners_keys or (lambda: expected)
        self._turn = 0
        self._who = f"the key of {keyring.key_owner}" if keyring is not None else "a connection without a key"
        self._endpoint = endpoint
        self._broken_off = 0
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(WATCHED)

    @classmethod
    def of(
        cls,
        socket: zmq.Socket[bytes],
        endpoint: str,
        keyring: Keyring | None,
        expected: tuple[str, ...] = (),
        listeners_keys: Callable[[], tuple[str, ...]] | None = None,
    ) -> HandshakeWatch | None:
        """None where the endpoint has no handshake that could fail."""
        return cls(socket, endpoint, keyring, expected, listeners_keys) if is_tcp(endpoint) else None

    def check(self) -> None:
        """Raises KeyRefused where the listener has refused the key, or breaks every handshake off."""
        broken_off = 0
        while int(self._monitor.get(zmq.EVENTS)) & zmq.POLLIN:
            # zmq.utils.monitor does the same and imports asyncio, which takes a starting process longer than the rest.
            event, _value = struct.unpack("=HI", self._monitor.recv_multipart(zmq.NOBLOCK)[0])
            if event == SUCCEEDED:
                self._broken_off = -sys.maxsize
            elif event == AUTHENTICATION_FAILED:
                why = f"{REVOKED}; {ADVICE}"
                raise KeyRefused(f"{self._endpoint} does not take {self._who}: {why}", definite=True)
            elif event == PROTOCOL_FAILED:
                text = f"{self._endpoint} expects something else than {self._who}, or is none of ours"
                raise KeyRefused(f"{text}: {ADVICE}", definite=True)
            elif event == BROKEN_OFF:
                broken_off += 1
        if broken_off and (self._know_others() or len(self._expected) > 1):
            # libzmq has tried this key several times since the last look: that is one try.
            self._expect_next()
            broken_off = 1
        self._broken_off += broken_off
        if self._broken_off >= BROKEN_OFF_MOST:
            self._broken_off = 0
            text = f"{self._endpoint} breaks off every handshake with {self._who}: is the right process running there?"
            raise KeyRefused(f"{text} If so, {OTHER_KEY}; {ADVICE}", definite=False)

    def _know_others(self) -> bool:
        """Whether the listener may have other keys than it had at the last look."""
        before, self._expected = self._expected, self._listeners_keys()
        return self._expected != before

    def _expect_next(self) -> None:
        """Connect anew, with the listener's next key."""
        self._turn += 1
        self._socket.disconnect(self._endpoint)
        self._socket.setsockopt_string(zmq.CURVE_SERVERKEY, self._expected[self._turn % len(self._expected)])
        self._socket.connect(self._endpoint)

    def close(self) -> None:
        """Stop watching, before the socket is closed."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
