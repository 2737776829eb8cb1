"""The socket that publishes telemetry."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from protocol.curve import listen_with
from protocol.endpoint import is_ipv6, is_tcp
from protocol.keys import Keyring
from protocol.link import TELEMETRY
from protocol.socket import HANDSHAKE_MS
from protocol.stale_socket import remove_stale_socket

SUBSCRIPTION_LIMIT_BYTES = 320
"""What a subscriber may say at once. A CURVE handshake takes 260; a topic may have the more than 200 that are left."""


class Publisher:
    """Publishes to whoever subscribes; with a keyring, tcp is for keys alone. Raises zmq.ZMQError as a listener does.

    Nothing is heard from a subscriber, so that only a new handshake can tell whether its key is still taken.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keyring: Keyring | None) -> None:
        self.endpoint = endpoint
        self.guarded = keyring is not None and is_tcp(endpoint)
        self._bound = False
        self._zmq = context.socket(zmq.PUB)
        self._zmq.setsockopt(zmq.LINGER, 0)
        self._zmq.setsockopt(zmq.SNDHWM, TELEMETRY.high_water_mark)
        self._zmq.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_LIMIT_BYTES)
        self._zmq.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._zmq.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        if keyring is not None and self.guarded:
            listen_with(self._zmq, keyring, TELEMETRY.name)
        try:
            remove_stale_socket(endpoint)
            self._zmq.bind(endpoint)
        except zmq.ZMQError:
            self.close()
            raise
        self._bound = True

    def send(self, frames: Sequence[bytes]) -> None:
        """Publish a message; who is too slow loses it."""
        self._zmq.send_multipart(frames, zmq.NOBLOCK)

    def admit_again(self, *, anew: bool) -> None:
        """Called in each turn. `anew`: every connection is ended now; subscribers that have a key come back.

        The port can be bound again as soon as libzmq's own thread has let go of it, in this turn or in a later one.
        Raises zmq.ZMQError where it cannot be bound at all.
        """
        if anew and self.guarded and self._bound:
            self._zmq.unbind(self.endpoint)
            self._bound = False
        if self._bound:
            return
        try:
            self._zmq.bind(self.endpoint)
        except zmq.ZMQError as error:
            if error.errno != zmq.EADDRINUSE:
                raise
            return
        self._bound = True

    def close(self) -> None:
        """Close at once."""
        self._zmq.close(linger=0)
