"""A connection that says what it likes to a listening socket of the cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from protocol.link import LINKS
from protocol.message import Message
from protocol.session_messages import Hello, Probe, Welcome
from protocol.wire import Envelope, decode, encode

ANSWER_MS = 10_000


def frame(kind: object, body: object, epoch: object = 0, number: object = 0, **changes: Any) -> bytes:
    """Frame 0 with anything in it."""
    head = {"v": 1, "type": kind, "epoch": epoch, "number": number, "acked": 1, "body": body}
    return bytes(msgpack.packb({**head, **changes}))


class Attacker:
    """A DEALER at a listening socket; `say` speaks as the session that `hello` got."""

    def __init__(self, link: str, endpoint: str) -> None:
        self.link = LINKS[link]
        self.epoch = 0
        self.number = 0
        self.name = f"attacker-{os.urandom(4).hex()}"
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.connect(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def send(self, frames: Sequence[bytes]) -> None:
        """Put frames on the wire, whatever they are."""
        assert self._socket.poll(ANSWER_MS, zmq.POLLOUT), "the socket takes no more"
        self._socket.send_multipart(list(frames), zmq.NOBLOCK)

    def throw(self, frames: Sequence[bytes]) -> None:
        """Put frames on the wire unless the socket is full."""
        if self._socket.poll(0, zmq.POLLOUT):
            self._socket.send_multipart(list(frames), zmq.NOBLOCK)

    def hear(self) -> Envelope:
        """The next message that is no probe."""
        while True:
            assert self._socket.poll(ANSWER_MS), f"no answer on {self.link.name}"
            envelope = decode(self._socket.recv_multipart(), self.link.down)
            if not isinstance(envelope.body, Probe):
                return envelope

    def hear_waiting(self) -> int:
        """Throw away what has come; how many messages that was."""
        heard = 0
        while self._socket.poll(0):
            self._socket.recv_multipart()
            heard += 1
        return heard

    def ask(self, *frames: bytes) -> Message:
        """Say something and hear the answer."""
        self.send(frames)
        return self.hear().body

    def hello(self, role: str) -> Self:
        """Open a session. Fails where it is refused."""
        hello = Hello(role=role, name=self.name, incarnation=os.urandom(16))
        welcome = self.ask(*encode(Envelope(hello)))
        assert isinstance(welcome, Welcome), welcome
        self.epoch = welcome.epoch
        return self

    def own(self, frames: list[bytes]) -> list[bytes]:
        """What a client with a session makes of a message: its own epoch, and a number it may use now and then."""
        if not self.epoch:
            return frames
        try:
            head = msgpack.unpackb(frames[0])
            whole = {**head, "epoch": self.epoch}
        except (ValueError, TypeError, msgpack.exceptions.UnpackException):
            return frames
        self.number += 1
        return [msgpack.packb({**whole, "number": self.number, "acked": self.number}), *frames[1:]]

    def say(self, kind: str, body: dict[str, Any]) -> Message:
        """A request of the session, and its answer."""
        self.number += 1
        return self.ask(frame(kind, body, self.epoch, self.number, acked=self.number))
