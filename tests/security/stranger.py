"""A peer with any key and words by hand: what our own programs would not say, or where they would not dial."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TypeVar
from unittest.mock import patch

import zmq

from protocol.curve import HandshakeWatch, dial_with
from protocol.effects import DIALLED
from protocol.keys import LINK_RULES, Keyring, KeysError, Principal
from protocol.link import LINKS
from protocol.message import Message
from protocol.session_messages import Hello, Probe, Welcome
from protocol.socket import NodeSocket
from protocol.wire import Envelope, decode, encode
from tests.security.system import DEADLINE_S, Secured

M = TypeVar("M", bound=Message)


def beyond_its_role(system: Secured, owner: str, link: str, name: str) -> Keyring:
    """The key pair of `owner` in the hands of a program that dials where it should not: our own would not."""
    rule = LINK_RULES[link]
    pair = system.keyring(owner).pair
    role = next(iter(sorted(rule.dial)))
    mask = Principal(role, name if link == "device" else "")
    return Keyring(mask, pair, system.keys.public)


def subscribed(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, keyring: Keyring | None) -> NodeSocket:
    """A subscriber of telemetry: a publisher takes no other kind of socket, whatever its key."""
    socket = NodeSocket(context, LINKS["telemetry"], zmq.SUB)
    socket.zmq.setsockopt(zmq.SUBSCRIBE, b"")
    expected = dial_with(socket.zmq, keyring, "telemetry") if keyring is not None else ()
    socket._watch = HandshakeWatch.of(socket.zmq, endpoint, keyring, expected)
    socket.zmq.connect(endpoint)
    return socket


class Stranger:
    """A connection with any key, on which anything can be said; it may choose its routing id at the listener."""

    def __init__(
        self, link: str, endpoint: str, keyring: Keyring | None, listener: str = "", routing_id: bytes = b""
    ) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.link = LINKS[link]
        chosen = patch("protocol.socket.new_routing_id", lambda: routing_id) if routing_id else nullcontext()
        try:
            with chosen:
                self.socket = (
                    subscribed(self.context, endpoint, keyring)
                    if link == "telemetry"
                    else NodeSocket.dial(self.context, self.link, endpoint, keyring, listener)
                )
        except KeysError:
            self.context.term()
            raise
        self.epoch = 0
        self.number = 0

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        self.context.term()

    def say(self, body: Message, epoch: int | None = None, number: int = 0, frames: tuple[bytes, ...] = ()) -> None:
        epoch = self.epoch if epoch is None else epoch
        self.raw(encode(Envelope(body, epoch, number, min(1, epoch), frames)))

    def raw(self, frames: Sequence[bytes]) -> None:
        self.socket.send(DIALLED, frames)

    def hear(self, kind: type[M], deadline_s: float = DEADLINE_S) -> M:
        """The next message of a kind; others are passed over. Raises KeyRefused where no connection comes about."""
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            if self.socket.zmq.poll(20):
                envelope = decode(self.socket.zmq.recv_multipart(), self.link.down)
                if isinstance(envelope.body, kind):
                    return envelope.body
            elif self.socket._watch is not None:
                self.socket._watch.check()
        raise AssertionError(f"no {kind.__name__} within {deadline_s:g} s")

    def hello(self, role: str, name: str, kind: type[M]) -> M:
        """Say HELLO and hear what comes of it."""
        self.say(Hello(role=role, name=name, incarnation=os.urandom(16)), epoch=0)
        answer = self.hear(kind)
        if isinstance(answer, Welcome):
            self.epoch = answer.epoch
        return answer

    def knock(self, deadline_s: float) -> Welcome:
        """Say something, if one can, and wait for any connection. Raises KeyRefused where none comes about."""
        if self.link.name != "telemetry":
            self.say(Probe(), epoch=0)
        return self.hear(Welcome, deadline_s)

    def ask(self, body: Message, kind: type[M]) -> M:
        """Make a request and hear its answer."""
        self.number += 1
        self.say(body, number=self.number)
        return self.hear(kind)
