"""A subscriber of the telemetry stream. It may lose messages; `missed` counts them by their numbers.

`envelopes` hands the numbers on, for `hmc.stream` to mend what was lost with snapshots.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

import zmq

from protocol.curve import HandshakeWatch, KeyRefused, dial_with
from protocol.endpoint import is_ipv6, is_tcp
from protocol.key_files import Keys, keys_of
from protocol.key_source import keyring_of
from protocol.keys import KeyRole, KeysError
from protocol.link import TELEMETRY
from protocol.message import Message
from protocol.wire import Envelope, WireError, decode

WATCH_MS = 100
"""How often an observer that waits looks how its handshake went."""


class Observer:
    """Listens to a hypervisor's telemetry endpoint from now on. `keys` is as for a console: of `hmc` or `observer`.

    Where they are in a file, a hypervisor whose key was changed is found again as soon as that has the new one. Raises
    KeysError where the key file is wrong.
    """

    def __init__(self, endpoint: str, keys: Keys | None = None) -> None:
        self._keys = keys_of(keys, KeyRole.HMC, KeyRole.OBSERVER)
        keyring = keyring_of(self._keys)
        self.endpoint = endpoint
        self.missed = 0
        self.undecodable = 0
        self.last_number: int | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._watch: HandshakeWatch | None = None
        self._expected: tuple[str, ...] = ()
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, TELEMETRY.high_water_mark)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        self._socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
        try:
            if keyring is not None and is_tcp(endpoint):
                self._expected = dial_with(self._socket, keyring, TELEMETRY.name)
            self._watch = HandshakeWatch.of(self._socket, endpoint, keyring, self._expected, self._hypervisors_keys)
            self._socket.connect(endpoint)
        except (zmq.ZMQError, KeysError):
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._socket.close(linger=0)
        self._context.term()

    def _hypervisors_keys(self) -> tuple[str, ...]:
        """Those that it may have by what the key file says now; those of before where that has none."""
        if self._keys is not None and self._expected:
            self._keys.refresh()
            with suppress(KeysError):
                self._expected = self._keys.keyring.server_keys(TELEMETRY.name, "")
        return self._expected

    def messages(self, wait_s: float = 0.0) -> Iterator[Message]:
        """What has arrived, waiting up to `wait_s` for the first."""
        for envelope in self.envelopes(wait_s):
            yield envelope.body

    def envelopes(self, wait_s: float = 0.0) -> Iterator[Envelope]:
        """The same with the messages' numbers. What cannot be read is counted, and missed like what was lost."""
        deadline = time.monotonic() + wait_s
        while self._wait(deadline):
            deadline = 0.0
            try:
                envelope = decode(self._socket.recv_multipart(zmq.NOBLOCK), TELEMETRY.down)
            except WireError:
                self.undecodable += 1
                continue
            if self.last_number is not None:
                self.missed += max(0, envelope.number - self.last_number - 1)
            self.last_number = envelope.number
            yield envelope

    def _wait(self, deadline: float) -> bool:
        """Whether something waits, or comes before the deadline.

        While the hypervisor's key is being changed it may have one of several, which are tried in turn. A key that it
        refuses is not told here but by the console's connection: this one only hears nothing.
        """
        while True:
            if self._watch is not None:
                with suppress(KeyRefused):
                    self._watch.check()
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            if self._socket.poll(min(left_ms, WATCH_MS)):
                return True
            if left_ms == 0:
                return False

    def wait_for(self, wanted: Callable[[Message], bool], wait_s: float) -> Message | None:
        """The first message that fits, or None when `wait_s` is over."""
        deadline = time.monotonic() + wait_s
        while (left := deadline - time.monotonic()) > 0:
            for message in self.messages(left):
                if wanted(message):
                    return message
        return None
