"""One conversation with a listening process, within a deadline: what ZeroMQ and msgpack give, and no more."""

from __future__ import annotations

import os
import struct
import time
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from vasbus.health.failure import NotReady, Unhealthy
from vasbus.health.keys import Credentials

WIRE_VERSION = 1
ROUTING_ID_BYTES, INCARNATION_BYTES, NAME_BYTES = 16, 16, 8
RECONNECT_MS, RECONNECT_MOST_MS = 20, 100
REPEAT_MS = 100
"""When a message that was put off is said again, where its refusal does not say when."""
LOOK_MS = 100
BYE_MS = 200
ANSWER_BYTES = 4 << 20
"""Of one frame; a snapshot of the largest system needs a tenth of it."""
PUT_OFF = frozenset(("retry", "in_use", "sessions_full", "draining"))
"""Refusals that say nothing for good."""
ASIDE = frozenset(("probe", "beat_echo"))
"""What a listener says without having been asked."""
CONNECTED = int(zmq.EVENT_CONNECTED)
DENIED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
UNFIT = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
BROKEN_OFF = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
WATCHED = CONNECTED | DENIED | UNFIT | BROKEN_OFF

Body = dict[str, Any]


class Caller:
    """Dials one endpoint. Where its listener may have one of several keys, a connection for each; one will be heard."""

    def __init__(self, endpoint: str, credentials: Credentials | None, wait_s: float) -> None:
        self.endpoint = endpoint
        self.wait_s = wait_s
        self._due_s = time.monotonic() + wait_s
        self._who = f"the key of {credentials.owner}" if credentials is not None else "a connection without a key"
        self._put_off: NotReady | None = None
        self._epoch = 0
        self._events: set[int] = set()
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._monitors: list[zmq.Socket[bytes]] = []
        try:
            expected: tuple[str | None, ...] = (None,) if credentials is None else credentials.listener
            self._sockets = [self._dial(credentials, listener) for listener in expected]
        except zmq.ZMQError as error:
            self._context.destroy(linger=0)
            raise Unhealthy(f"cannot dial {endpoint!r}: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)

    def _dial(self, credentials: Credentials | None, listener: str | None) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        for option, value in (
            (zmq.LINGER, 0), (zmq.IPV6, int(self.endpoint.startswith("tcp://["))), (zmq.MAXMSGSIZE, ANSWER_BYTES),
            (zmq.RECONNECT_IVL, RECONNECT_MS), (zmq.RECONNECT_IVL_MAX, RECONNECT_MOST_MS),
        ):  # fmt: skip
            socket.setsockopt(option, value)
        socket.setsockopt(zmq.ROUTING_ID, b"v" + os.urandom(ROUTING_ID_BYTES))
        if credentials is not None and listener is not None:
            socket.setsockopt_string(zmq.CURVE_SERVERKEY, listener)
            socket.setsockopt_string(zmq.CURVE_PUBLICKEY, credentials.public)
            socket.setsockopt_string(zmq.CURVE_SECRETKEY, credentials.secret)
        monitor = socket.get_monitor_socket(WATCHED)
        self._monitors.append(monitor)
        for each in (socket, monitor):
            self._poller.register(each, zmq.POLLIN)
        socket.connect(self.endpoint)
        return socket

    # The session.

    def hello(self, role: str) -> None:
        """Open a session. Raises Unhealthy."""
        incarnation = os.urandom(INCARNATION_BYTES)
        name = f"health-{os.urandom(NAME_BYTES).hex()}"
        body: Body = {"role": role, "name": name, "incarnation": incarnation, "pid": os.getpid()}
        kind, answer = self.ask("hello", body)
        epoch = answer.get("epoch")
        if kind != "welcome" or not isinstance(epoch, int):
            raise Unhealthy(f"{self.endpoint}: expected welcome, came {kind}")
        self._epoch = epoch

    def bye(self) -> None:
        """End the session, so that the listener need not wait for its lease; the answer is waited for, but not long."""
        self._due_s = time.monotonic() + BYE_MS / 1000
        self._send("bye", {}, 0, ())
        self._receive()

    def ask(self, kind: str, body: Body, number: int = 0, frames: tuple[bytes, ...] = ()) -> tuple[str, Body]:
        """Send a message and wait for its answer: type and body. It is said again as long as it is only put off.

        Raises Unhealthy where it is refused, or nobody answers in time.
        """
        self._send(kind, body, number, frames)
        while True:
            answer = self._receive()
            if answer is None:
                raise self._put_off or Unhealthy(self._silence(), silent=True)
            if answer[0] != "refused":
                return answer
            refusal = answer[1]
            code, after_ms = refusal.get("code"), refusal.get("after_ms")
            words = f"{self.endpoint}: {code}: expected {refusal.get('expected')}, came {refusal.get('came')}"
            if code not in PUT_OFF:
                raise Unhealthy(words)
            self._put_off = NotReady(f"{words}; so it was for {self.wait_s:g} s", str(code))
            self._pause(after_ms if isinstance(after_ms, int) and after_ms else REPEAT_MS)
            self._send(kind, body, number, frames)

    def _pause(self, wait_ms: int) -> None:
        """Until the message is to be said again, or the time is up; nothing but notices comes meanwhile."""
        time.sleep(max(0.0, min(wait_ms / 1000, self._due_s - time.monotonic())))

    # The wire.

    def _send(self, kind: str, body: Body, number: int, frames: tuple[bytes, ...]) -> None:
        head = {"v": WIRE_VERSION, "type": kind, "epoch": self._epoch, "number": number, "acked": 0, "body": body}
        for socket in self._sockets:
            socket.send_multipart([msgpack.packb(head), *frames], zmq.NOBLOCK)

    def _receive(self) -> tuple[str, Body] | None:
        """The next message that is said to us; None where none comes in time. Raises Unhealthy."""
        while (left_ms := int((self._due_s - time.monotonic()) * 1000)) > 0:
            ready = dict(self._poller.poll(min(left_ms, LOOK_MS)))
            for monitor in self._monitors:
                if monitor in ready:
                    self._note(monitor)
            for socket in self._sockets:
                if socket in ready:
                    answer = self._decode(socket.recv_multipart(zmq.NOBLOCK))
                    if answer[0] not in ASIDE:
                        self._sockets = [socket]
                        return answer
        return None

    def _note(self, monitor: zmq.Socket[bytes]) -> None:
        """What became of a connection. Raises Unhealthy where its listener has refused it for good."""
        event, _value = struct.unpack("=HI", monitor.recv_multipart(zmq.NOBLOCK)[0])
        self._events.add(event)
        if event == DENIED:
            raise Unhealthy(f"{self.endpoint} does not take {self._who}")
        if event == UNFIT and len(self._sockets) == 1:
            raise Unhealthy(f"{self.endpoint} expects something else than {self._who}, or is none of ours")

    def _decode(self, frames: list[bytes]) -> tuple[str, Body]:
        try:
            head = msgpack.unpackb(frames[0])
            kind, body = head["type"], head["body"]
        except (ValueError, KeyError, TypeError, msgpack.UnpackException):
            kind, body = None, None
        if not isinstance(kind, str) or not isinstance(body, dict):
            raise Unhealthy(f"{self.endpoint}: what came is no message of the bus")
        return kind, body

    def _silence(self) -> str:
        """Why no answer came, as far as it shows."""
        within = f"within {self.wait_s:g} s"
        if CONNECTED not in self._events:
            return f"{self.endpoint}: nobody listens there {within}"
        if BROKEN_OFF in self._events:
            return f"{self.endpoint} breaks off every handshake with {self._who}"
        return f"{self.endpoint}: no answer {within}"
