"""What a core wants done. Cores only append here; the shell carries it out after the store has committed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from protocol.codes import ExitCode
from protocol.message import Message
from protocol.wire import Envelope

Peer = bytes
"""The routing id of a connection at a listening socket; empty at a dialled one."""
DIALLED: Peer = b""


@dataclass(frozen=True, slots=True)
class Send:
    """Put a message on a link. At a listening socket a vanished peer comes back as `Core.unreachable`."""

    link: str
    peer: Peer
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Dial:
    """Close the link's connection, if any, and open a new one to the endpoint.

    `listener` names who is to be there, where the link does not say it: the NX unit that is pasted to.
    """

    link: str
    endpoint: str
    listener: str = ""


@dataclass(frozen=True, slots=True)
class Hangup:
    """Close the link's connection."""

    link: str


@dataclass(frozen=True, slots=True)
class LogLine:
    """Something worth telling the operator: an event's name and its facts."""

    level: str
    event: str
    facts: dict[str, object]


@dataclass(frozen=True, slots=True)
class Exit:
    """The process is to end."""

    code: ExitCode
    reason: str


@dataclass(slots=True)
class Effects:
    """One cycle's worth of wishes, in order: `transmissions`, the store's `writes`, telemetry and log lines."""

    transmissions: list[Send | Dial | Hangup] = field(default_factory=list)
    writes: list[object] = field(default_factory=list)
    published: list[Envelope] = field(default_factory=list)
    log: list[LogLine] = field(default_factory=list)
    exit: Exit | None = None
    publication: int = 0

    def send(self, link: str, peer: Peer, envelope: Envelope) -> None:
        self.transmissions.append(Send(link, peer, envelope))

    def publish(self, message: Message) -> None:
        """Put a message on the telemetry stream, with the next number."""
        self.publication += 1
        self.published.append(Envelope(message, number=self.publication))

    def note(self, level: str, event: str, **facts: object) -> None:
        """Tell the operator."""
        self.log.append(LogLine(level, event, facts))

    def take(self) -> Effects:
        """Hand over what has gathered and start afresh."""
        taken = Effects(self.transmissions, self.writes, self.published, self.log, self.exit, self.publication)
        self.transmissions, self.writes, self.published, self.log = [], [], [], []
        return taken


class Core(Protocol):
    """The pure part of a process: no sockets, clock, randomness, threads or files. Times are `now_us`."""

    effects: Effects

    def start(self, now_us: int) -> None:
        """Called once, before anything arrives."""

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        """A valid message of the link arrived."""

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        """The connection that a message was for no longer exists."""

    def tick(self, now_us: int) -> None:
        """Do what is due. Called at least as often as `wake_us` asks and after each batch of arrivals."""

    def wake_us(self) -> int | None:
        """When `tick` is wanted next; None where nothing is pending."""

    def stop(self, now_us: int) -> None:
        """The operator asks the process to end: wind up and set `effects.exit`."""
