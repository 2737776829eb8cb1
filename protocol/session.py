"""What both ends of a session share: its terms, its events and the outgoing half of the exchange. Pure.

A session belongs to a name. HELLO opens it, and every later message carries its epoch, so that a late message of an
old incarnation is refused by number. `Listener` grants sessions, `Dialer` holds one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.effects import Effects, Peer
from protocol.exchange import Admission, Callee, Caller
from protocol.lost_connection import LostConnection
from protocol.message import LOCAL_NETWORK, Message, Reply, Request
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused, Welcome
from protocol.wire import Envelope, refuse


@dataclass(frozen=True, slots=True)
class Terms:
    """The times of a kind of session.

    `by_beats`: the dialer beats every `beat_us`, is suspected after `suspect_us` of silence, and its lease runs from
    its last message. Otherwise its life is its connection: the listener probes it every `beat_us`, and the lease
    runs from the moment the connection was found gone.
    """

    by_beats: bool = True
    beat_us: int = 1 * SECOND_US
    suspect_us: int = 3 * SECOND_US
    lease_us: int = 10 * SECOND_US
    drift_margin_us: int = 100 * MILLISECOND_US
    session_limit: int = 1024


class Ending(StrEnum):
    """Why a session ended."""

    BYE = "bye"
    LEASE = "lease"
    REPLACED = "replaced"
    KILLED = "killed"


@dataclass(slots=True)
class Session:
    """One granted session as the listening side keeps it. `peer` is None while no connection carries it."""

    role: str
    name: str
    epoch: int
    incarnation: bytes
    secret: bytes
    network: str = LOCAL_NETWORK
    pid: int = 0
    endpoints: dict[str, str] = field(default_factory=dict)
    peer: Peer | None = None
    heard_us: int = 0
    gone_us: int | None = None
    lost: LostConnection | None = None
    """The connection that broke, where its being made again would be enough."""
    suspected: bool = False
    alive: bool = True
    proven: bool = False
    """Whether a message with its epoch came: the holder has its WELCOME, and so the secret."""
    caller: Caller = field(default_factory=Caller)
    callee: Callee = field(default_factory=Callee)
    claims: dict[bytes, int] = field(default_factory=dict)
    """When other incarnations first asked for the name while this one had it."""


def welcome(session: Session, terms: Terms, *, resumed: bool) -> Welcome:
    """What the holder of a session is told when a connection carries it."""
    return Welcome(
        name=session.name,
        epoch=session.epoch,
        secret=session.secret,
        resumed=resumed,
        beat_ms=terms.beat_us // MILLISECOND_US if terms.by_beats else 0,
        probe_ms=0 if terms.by_beats else terms.beat_us // MILLISECOND_US,
        lease_ms=terms.lease_us // MILLISECOND_US,
        outstanding=session.callee.limit,
    )


class Journal(Protocol):
    """Where a listener tells what must outlive its process. Calls come before the messages that depend on them."""

    def session_opened(self, session: Session) -> None: ...
    def session_ended(self, session: Session) -> None: ...
    def answered(self, session: Session, number: int, answer: Message) -> None: ...
    def acknowledged(self, session: Session) -> None: ...


class Forgetful:
    """The journal of roles whose sessions die with their process."""

    def session_opened(self, session: Session) -> None:
        """Nothing outlives the process."""

    def session_ended(self, session: Session) -> None:
        """Nothing outlives the process."""

    def answered(self, session: Session, number: int, answer: Message) -> None:
        """Nothing outlives the process."""

    def acknowledged(self, session: Session) -> None:
        """Nothing outlives the process."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A new incarnation has a session."""

    session: Session


@dataclass(frozen=True, slots=True)
class Moved:
    """A session's standing changed: it resumed on a new connection, fell silent, or was heard again."""

    session: Session
    step: Literal["resumed", "suspected", "returned"]


@dataclass(frozen=True, slots=True)
class Closed:
    """A session ended; what it held is to be taken back."""

    session: Session
    ending: Ending


@dataclass(frozen=True, slots=True)
class Called:
    """A request to carry out, exactly once; answer it with `answer` or put it off with `retry`."""

    session: Session
    number: int
    body: Request


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a request of ours."""

    session: Session
    request: Request
    number: int
    reply: Reply | Refused


@dataclass(frozen=True, slots=True)
class Noticed:
    """A message without a number."""

    session: Session
    body: Message


@dataclass(frozen=True, slots=True)
class Established:
    """The dialled session is open: newly, or resumed on a new connection."""

    session: Session
    resumed: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """The dialled session cannot be had or is over: `refusal` says why. It is not dialled again by itself."""

    session: Session
    refusal: Refused


Event = Opened | Moved | Closed | Called | Answered | Noticed | Established | Ended


class SessionEnd:
    """The half of a session that is the same at both ends: calling, answering, repeating."""

    def __init__(self, link: str, effects: Effects, journal: Journal | None = None) -> None:
        self.link = link
        self.effects = effects
        self.journal: Journal = journal or Forgetful()

    def send(self, session: Session, body: Message, number: int = 0) -> None:
        """Put one message on the session's connection; without one it is lost, as on any network."""
        if session.peer is not None:
            envelope = Envelope(body, session.epoch, number, session.caller.acked_below)
            self.effects.send(self.link, session.peer, envelope)

    def call(self, session: Session, body: Request, now_us: int) -> int:
        """Ask the other end; the answer comes as `Answered` with the number returned here. Raises BacklogFull."""
        number = session.caller.call(body, now_us)
        self.send_due(session, now_us)
        return number

    def send_due(self, session: Session, now_us: int) -> None:
        """Put the requests that are due on the wire."""
        if session.peer is not None:
            for entry in session.caller.due(now_us):
                self.send(session, entry.body, entry.number)

    def answer(self, session: Session, number: int, reply: Message) -> None:
        """Answer a request: kept and journalled for repeats. Nothing happens if the session has ended since."""
        if session.alive and session.callee.settle(number, reply):
            self.journal.answered(session, number, reply)
            self.send(session, reply, number)

    def retry(self, session: Session, number: int, after_ms: int, code: RefusalCode = RefusalCode.RETRY) -> None:
        """Put a request off, as RETRY or DRAINING: nothing was done, the caller repeats it with the same number."""
        if session.alive and session.callee.abandon(number):
            came = "a request during shutdown" if code is RefusalCode.DRAINING else "a request during recovery"
            self.send(session, refuse(code, "the process to be ready", came, after_ms), number)

    def acknowledge(self, session: Session, acked_below: int) -> None:
        """The other end has our answers below this number."""
        if session.callee.acknowledge(acked_below):
            self.journal.acknowledged(session)

    def exchange(self, session: Session, envelope: Envelope, now_us: int) -> list[Event]:
        """Sort a message of an open session: a request, an answer, a refusal or a notice."""
        body = envelope.body
        self.acknowledge(session, envelope.acked_below)
        if isinstance(body, Request):
            return self._requested(session, envelope.number, body)
        if isinstance(body, Refused) and envelope.number and not body.code.definite:
            session.caller.postpone(envelope.number, body.after_ms * MILLISECOND_US, now_us)
            return []
        if isinstance(body, Reply | Refused) and envelope.number:
            request = session.caller.settle(envelope.number)
            self.send_due(session, now_us)
            return [] if request is None else [Answered(session, request, envelope.number, body)]
        return [Noticed(session, body)]

    def _requested(self, session: Session, number: int, body: Request) -> list[Event]:
        admission = session.callee.admit(number)
        if admission is Admission.EXECUTE:
            return [Called(session, number, body)]
        if admission is Admission.REPEAT_ANSWER:
            self.send(session, session.callee.answers[number], number)
        elif admission is Admission.STALE and not number:
            self.send(
                session, refuse(RefusalCode.STALE_NUMBER, "requests numbered from 1", "a request without a number")
            )
        elif admission is Admission.TOO_MANY:
            room = f"a number below {session.callee.acked_below + session.callee.limit}"
            self.send(session, refuse(RefusalCode.OUTSTANDING, room, str(number)), number)
        return []
