"""Messages of the session layer: they mean the same on every link that has sessions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from protocol.message import LOCAL_NETWORK, U32, U64, Endpoints, Flag, Message, Name, Nonce, Notice, Secret, Text
from protocol.refusals import RefusalCode


class Hello(Message):
    """I am `name`. With `epoch` and `secret` of an earlier WELCOME: the same incarnation on a new connection."""

    type: Literal["hello"] = "hello"
    role: Name
    name: Name
    incarnation: Nonce
    network: Name = LOCAL_NETWORK
    epoch: U64 = 0
    secret: Secret = b""
    pid: U32 = 0
    endpoints: Endpoints = Field(default_factory=dict)


class Welcome(Message):
    """The session's epoch (strictly rising per name) and the terms of its lease, as the callee grants them.

    The holder beats every `beat_ms`, or, where that is 0, hears a probe every `probe_ms`.
    """

    type: Literal["welcome"] = "welcome"
    name: Name
    epoch: U64
    secret: Secret
    resumed: Flag
    beat_ms: U32
    lease_ms: U32
    outstanding: U32
    probe_ms: U32 = 0


class Beat(Notice):
    """I am alive; `sequence` comes back in the echo, from which the sender counts its lease."""

    type: Literal["beat"] = "beat"
    sequence: U64


class BeatEcho(Notice):
    """Your beat `sequence` arrived. `generation` is the configuration you should be at (0 where none applies)."""

    type: Literal["beat_echo"] = "beat_echo"
    sequence: U64
    generation: U64


class Probe(Notice):
    """Sent only to learn whether the connection still exists."""

    type: Literal["probe"] = "probe"


class Bye(Message):
    """The sender ends its session; what it holds may be taken back at once."""

    type: Literal["bye"] = "bye"


class ByeDone(Message):
    """The session has ended; nothing further is sent on this connection."""

    type: Literal["bye_done"] = "bye_done"


class Refused(Message):
    """A message was not accepted: what was expected, what came, and what to do about it."""

    type: Literal["refused"] = "refused"
    code: RefusalCode
    expected: Text = ""
    came: Text = ""
    advice: Text = ""
    after_ms: U32 = 0

    @property
    def is_definite(self) -> bool:
        """Whether it would be refused again: never where it says when to ask again."""
        return self.code.definite and not self.after_ms
