"""Many clients of one partition in one process: their real sessions on real sockets, asking without waiting."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import zmq

from lpar.client.kernel_session import CLIENT_TERMS
from protocol.dialer import Dialer, Identity
from protocol.effects import Dial, Effects, Send
from protocol.link import DEVICE
from protocol.message import Request
from protocol.node import monotonic_us
from protocol.session import Answered, Ended, Event
from protocol.session_messages import Refused
from protocol.socket import NodeSocket
from protocol.wire import decode, encode
from tests.overload.opening import Heard

POLL_MS = 20
WAIT_S = 60.0


class Member:
    """One client: its session, and who waits for which answer."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], number: int, endpoint: str) -> None:
        self.context = context
        self.effects = Effects()
        self.socket: NodeSocket | None = None
        self.waiting: dict[int, Heard] = {}
        self.ended: Refused | None = None
        name = f"crowd-{os.getpid()}-{number}-{os.urandom(4).hex()}"
        identity = Identity("client", name, os.urandom(16), "local", os.getpid(), {})
        self.dialer = Dialer(DEVICE.name, endpoint, identity, CLIENT_TERMS, self.effects)
        self.dialer.open(monotonic_us())

    def call(self, body: Request, heard: Heard) -> None:
        """Ask the kernel; `heard` is called with the answer."""
        number = self.dialer.call(self.dialer.session, body, monotonic_us())
        self.waiting[number] = heard

    def read(self) -> None:
        """Hear what has come."""
        assert self.socket is not None
        for _, frames in self.socket.receive():
            for event in self.dialer.receive(decode(frames, DEVICE.down), monotonic_us()):
                self._handle(event)

    def _handle(self, event: Event) -> None:
        if isinstance(event, Answered):
            self.waiting.pop(event.number)(event.reply)
        elif isinstance(event, Ended):
            self.ended = event.refusal

    def is_due(self, now_us: int) -> bool:
        """Whether it has something to say."""
        wake_us = self.dialer.wake_us()
        return bool(self.effects.transmissions) or (wake_us is not None and wake_us <= now_us)

    def speak(self) -> None:
        """Tick, and send what is to be sent."""
        self.dialer.tick(monotonic_us())
        for wish in self.effects.take().transmissions:
            if isinstance(wish, Send):
                assert self.socket is not None
                self.socket.send(wish.peer, encode(wish.envelope))
                continue
            self.hang_up()
            if isinstance(wish, Dial):
                self.socket = NodeSocket.dial(self.context, DEVICE, wish.endpoint)

    def hang_up(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


@dataclass
class Crowd:
    """The clients, turn by turn."""

    members: list[Member]
    context: zmq.Context[zmq.Socket[bytes]]
    poller: zmq.Poller = field(default_factory=zmq.Poller)
    by_socket: dict[zmq.Socket[bytes], Member] = field(default_factory=dict)

    def run(self, until: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> float:
        """Turn until something is so; the seconds it took. Fails after `wait_s`."""
        began = time.monotonic()
        while not until():
            assert time.monotonic() - began < wait_s, f"not within {wait_s:g} s: {what}"
            self._turn()
        return time.monotonic() - began

    def _turn(self) -> None:
        now_us = monotonic_us()
        for member in self.members:
            if member.is_due(now_us):
                before = member.socket
                member.speak()
                self._replaced(before, member)
        for socket, _ in self.poller.poll(POLL_MS):
            assert isinstance(socket, zmq.Socket)
            member = self.by_socket[socket]
            member.read()
            member.speak()

    def _replaced(self, before: NodeSocket | None, member: Member) -> None:
        if member.socket is before:
            return
        if before is not None:
            self.poller.unregister(before.zmq)
            del self.by_socket[before.zmq]
        if member.socket is not None:
            self.poller.register(member.socket.zmq, zmq.POLLIN)
            self.by_socket[member.socket.zmq] = member


@contextmanager
def crowd_of(count: int, endpoints: list[str]) -> Iterator[Crowd]:
    """So many clients with sessions, shared out among partitions."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4 * count + 16)
    crowd = Crowd([Member(context, number, endpoints[number % len(endpoints)]) for number in range(count)], context)
    try:
        crowd.run(lambda: all(member.dialer.established for member in crowd.members), "every client has a session")
        yield crowd
    finally:
        for member in crowd.members:
            member.hang_up()
        context.term()
