"""A process that calls a real listener over a real socket, with deadlines instead of sleeps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import zmq

from protocol.dialer import Dialer, Identity
from protocol.effects import DIALLED, Dial, Effects, Send
from protocol.link import HCALL
from protocol.message import Message
from protocol.node import monotonic_us
from protocol.session import Answered, Event
from protocol.socket import NodeSocket
from protocol.wire import Envelope, decode, encode
from tests.protocol.counting_node import SHORT

DEADLINE_S = 10.0
POLL_MS = 20


class RealCaller:
    """A dialer with a socket. `raw` puts frames on the same connection by hand."""

    def __init__(self, endpoint: str, name: str = "lp1") -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.effects = Effects()
        who = Identity("lpar", name, os.urandom(16), "local", os.getpid(), {})
        self.dialer = Dialer("hcall", endpoint, who, SHORT, self.effects)
        self.socket: NodeSocket | None = None
        self.events: list[Event] = []
        self.received: list[Envelope] = []
        self.sent: list[Envelope] = []

    def __enter__(self) -> Self:
        self.dialer.open(monotonic_us())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.socket is not None:
            self.socket.close()
        self.context.term()

    def until(self, reached: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
        """Serve the socket until something is so; fails after the deadline."""
        end_s = time.monotonic() + deadline_s
        while not reached():
            assert time.monotonic() < end_s, f"not in {deadline_s:g} s: {what}"
            self.serve()

    def serve(self) -> None:
        """One wait for the socket and what follows from it."""
        self.transmit()
        assert self.socket is not None
        self.socket.zmq.poll(POLL_MS)
        for _, frames in self.socket.receive():
            envelope = decode(frames, HCALL.down)
            self.received.append(envelope)
            self.events += self.dialer.receive(envelope, monotonic_us())
        self.dialer.tick(monotonic_us())
        self.transmit()
        self.socket.flush()

    def transmit(self) -> None:
        for wish in self.effects.take().transmissions:
            if isinstance(wish, Dial):
                if self.socket is not None:
                    self.socket.close()
                self.socket = NodeSocket.dial(self.context, HCALL, wish.endpoint)
            elif isinstance(wish, Send) and self.socket is not None:
                self.socket.send(DIALLED, encode(wish.envelope))
                self.sent.append(wish.envelope)

    def connect(self) -> Self:
        self.until(lambda: self.dialer.established, "a session")
        return self

    def raw(self, *frames: bytes) -> None:
        assert self.socket is not None
        self.socket.send(DIALLED, frames)

    def answers(self) -> list[Message]:
        return [event.reply for event in self.events if isinstance(event, Answered)]

    def bodies(self, kind: type[Message]) -> list[Envelope]:
        return [envelope for envelope in self.received if isinstance(envelope.body, kind)]
