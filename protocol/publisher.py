"""The socket that publishes telemetry."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import zmq

from protocol.curve import listen_with
from protocol.effects import LogLine
from protocol.endpoint import is_ipv6, is_tcp
from protocol.keys import Keyring
from protocol.link import TELEMETRY
from protocol.memory import with_descriptors
from protocol.socket import HANDSHAKE_MS
from protocol.stale_socket import bind

SUBSCRIPTION_LIMIT_BYTES = 320
"""What a subscriber may say at once. A CURVE handshake takes 260; a topic may have the more than 200 that are left."""


class Publisher:
    """Publishes to whoever subscribes; with a keyring, tcp is for keys alone. Raises zmq.ZMQError as a listener does.

    Nothing is heard from a subscriber, so that only a new handshake can tell whether its key is still taken.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keyring: Keyring | None) -> None:
        self.endpoint = endpoint
        self.guarded = keyring is not None and is_tcp(endpoint)
        self._is_due = self._is_put_off = False
        self._listening: int | None = None
        self._zmq = context.socket(zmq.PUB)
        self._zmq.setsockopt(zmq.LINGER, 0)
        self._zmq.setsockopt(zmq.SNDHWM, TELEMETRY.high_water_mark)
        self._zmq.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_LIMIT_BYTES)
        self._zmq.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._zmq.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        if keyring is not None and self.guarded:
            listen_with(self._zmq, keyring, TELEMETRY.name)
        try:
            self._bind()
        except zmq.ZMQError:
            self.close()
            raise

    def send(self, frames: Sequence[bytes]) -> None:
        """Publish a message; who is too slow loses it."""
        self._zmq.send_multipart(frames, zmq.NOBLOCK)

    def admit_again(self, *, anew: bool) -> LogLine | None:
        """Called in each turn. `anew`: every connection is ended now; subscribers that have a key come back.

        That takes a descriptor. Where none is to be had it is put off, and tried again in each turn; a line says so
        the first time, and another one when it is done.
        """
        self._is_due = self._is_due or (anew and self._listening is not None)
        if not self._is_due:
            return None
        try:
            self._bind_anew()
        except OSError as error:
            first, self._is_put_off = not self._is_put_off, True
            meaning = "subscribers whose key was taken out still hear; they are cut off as soon as a descriptor is free"
            return LogLine("error", "subscribers_kept", {"why": str(error), "meaning": meaning}) if first else None
        late, self._is_due, self._is_put_off = self._is_put_off, False, False
        return LogLine("info", "subscribers_cut_off", {}) if late else None

    def close(self) -> None:
        """Close at once."""
        self._zmq.close(linger=0)

    def _bind(self) -> None:
        """Bind at the endpoint as it was given, and learn which descriptor listens there. Raises zmq.ZMQError."""
        if not self.guarded:
            bind(self._zmq, self.endpoint)
            return
        monitor: zmq.Socket[bytes] = self._zmq.get_monitor_socket(zmq.EVENT_LISTENING)
        try:
            bind(self._zmq, self.endpoint)
            _event, self._listening = struct.unpack("=HI", monitor.recv_multipart(zmq.NOBLOCK)[0])
        finally:
            self._zmq.disable_monitor()
            monitor.close(linger=0)

    def _bind_anew(self) -> None:
        """End every connection. Raises OSError where there is no descriptor.

        The address stays ours meanwhile: the same socket goes on listening by a second descriptor. Else somebody else
        might take it, it might be gone for the moment, and libzmq 4.3.5 aborts where it looks for the address and has
        no descriptor (ip_resolver.cpp). libzmq knows an endpoint that was given by a name by its address alone.
        """
        assert self._listening is not None, "only what is guarded is bound anew"
        listening = self._listening
        self._listening = with_descriptors(lambda: os.dup(listening))
        self._zmq.unbind(self._zmq.getsockopt_string(zmq.LAST_ENDPOINT))
        self._zmq.setsockopt(zmq.USE_FD, self._listening)
        self._zmq.bind(self.endpoint)
