"""The ZAP handler of a server: libzmq asks it about each connection with a key (ZeroMQ's RFC 27).

It has no thread: the node loop polls it like any other socket, and decides by the keyring alone. Its answer puts the
public key on every frame of the connection, as its User-Id: whose it is may change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import zmq
from zmq.utils import z85

from protocol.keys import LINK_RULES, Keyring

ENDPOINT = "inproc://zeromq.zap.01"
VERSION = b"1.0"
BATCH_LIMIT = 64
"""Connections decided on before the other sockets get their turn."""
ALLOWED, DENIED = b"200", b"400"
REQUEST_FRAMES = 7
KEY_BYTES = 32


class ZapHandler:
    """Answers what libzmq asks in a context. One per context; it has to be there before anybody connects."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], keyring: Callable[[], Keyring], poller: zmq.Poller
    ) -> None:
        self.keyring = keyring
        self.zmq = context.socket(zmq.REP)
        self.zmq.setsockopt(zmq.LINGER, 0)
        self.zmq.bind(ENDPOINT)
        poller.register(self.zmq, zmq.POLLIN)

    @property
    def is_asked(self) -> bool:
        """Whether a connection waits for a decision."""
        return bool(int(self.zmq.get(zmq.EVENTS)) & zmq.POLLIN)

    def serve(self) -> Iterator[dict[str, object]]:
        """Decide on the connections that wait; yields the facts of each refused one, for the log."""
        for _ in range(BATCH_LIMIT):
            if not self.is_asked:
                return
            reply, facts = answer(self.zmq.recv_multipart(zmq.NOBLOCK), self.keyring())
            self.zmq.send_multipart(reply, zmq.NOBLOCK)
            if facts is not None:
                yield facts

    def close(self) -> None:
        """Stop answering."""
        self.zmq.close(linger=0)


def answer(request: list[bytes], keyring: Keyring) -> tuple[list[bytes], dict[str, object] | None]:
    """The reply to a ZAP request, and where that is no, the facts."""
    identifier = request[1] if len(request) > 1 else b""
    if len(request) != REQUEST_FRAMES or request[5] != b"CURVE" or len(request[6]) != KEY_BYTES:
        return [VERSION, identifier, DENIED, b"expected a CURVE key", b"", b""], {"why": "no CURVE key"}
    link, address = request[2].decode(errors="replace"), request[3].decode(errors="replace")
    public_key = z85.encode(request[6]).decode()
    principal = keyring.authorise(link, public_key) if link in LINK_RULES else None
    if principal is not None:
        return [VERSION, identifier, ALLOWED, b"", public_key.encode(), b""], None
    owner = keyring.owner_of(public_key)
    facts: dict[str, object] = {
        "link": link, "address": address, "public_key": public_key, "owner": str(owner) if owner else "unknown",
    }  # fmt: skip
    return [VERSION, identifier, DENIED, b"this key is not for this link", b"", b""], facts
