"""The granting end of sessions: who is connected as whom, and for how long. Pure."""

from __future__ import annotations

from collections.abc import Callable

from protocol.claims import Claims, OwnNames, name_in_use
from protocol.clock import earliest
from protocol.effects import Effects, Peer
from protocol.lost_connection import LostConnection, can_be_found
from protocol.message import Notice
from protocol.refusals import RefusalCode
from protocol.session import (
    Closed,
    Ending,
    Event,
    Journal,
    Moved,
    Opened,
    Session,
    SessionEnd,
    Terms,
    welcome,
)  # fmt: skip
from protocol.session_messages import Beat, BeatEcho, Bye, ByeDone, Hello, Probe, Refused
from protocol.wire import Envelope, refuse

SECRET_BYTES = 16


def everybody(_hello: Hello) -> Refused | None:
    """Admit whoever says HELLO."""
    return None


def no_generation(_session: Session) -> int:
    """The generation in a beat's echo, for roles that have no configuration."""
    return 0


class Listener(SessionEnd):
    """Sessions of one listening socket.

    `admit` may refuse a HELLO; `generation` gives the number that a beat's echo carries; `entropy(n)` gives n
    unguessable bytes; `claims` says whose HELLO it is.
    """

    def __init__(
        self,
        link: str,
        terms: Terms,
        effects: Effects,
        entropy: Callable[[int], bytes],
        admit: Callable[[Hello], Refused | None] = everybody,
        generation: Callable[[Session], int] = no_generation,
        journal: Journal | None = None,
    ) -> None:
        super().__init__(link, effects, journal)
        self.terms = terms
        self.entropy = entropy
        self.admit = admit
        self.generation = generation
        self.claims: Claims = OwnNames()
        self.sessions: dict[str, Session] = {}
        self.epochs: dict[str, int] = {}
        self._by_peer: dict[Peer, Session] = {}
        self._probe_due_us = 0

    def restore(self, sessions: list[Session], epochs: dict[str, int], now_us: int) -> None:
        """Take over the sessions of an earlier process: each gets a full new lease before it is judged."""
        for name, epoch in epochs.items():
            key = self._epochs_of(name)
            self.epochs[key] = max(epoch, self.epochs.get(key, 0))
        for session in sessions:
            session.heard_us = now_us
            session.peer = None
            session.proven = bool(session.callee.answers)
            session.gone_us = None if self.terms.by_beats else now_us
            self.sessions[session.name] = session

    def receive(self, peer: Peer, envelope: Envelope, now_us: int) -> list[Event]:
        """Take a message in; what it means for the role comes back as events."""
        body = envelope.body
        if isinstance(body, Hello):
            return self._hello(peer, body, now_us)
        session = self._by_peer.get(peer)
        if session is None:
            self._refuse(peer, RefusalCode.NO_SESSION, "HELLO as the first message", body.type, envelope)
            return []
        if envelope.epoch != session.epoch:
            self._refuse(peer, RefusalCode.EPOCH, "the session's epoch", f"epoch {envelope.epoch}", envelope)
            return []
        session.proven = True
        if session.lost is not None:
            self._found(session, session.lost, now_us)
        events = self._heard(session, now_us)
        if isinstance(body, Beat):
            self.acknowledge(session, envelope.acked_below)
            self.send(session, BeatEcho(sequence=body.sequence, generation=self.generation(session)))
        elif isinstance(body, Bye):
            self.send(session, ByeDone())
            events += self.close(session, Ending.BYE)
        else:
            events += self.exchange(session, envelope, now_us)
        return events

    def notify(self, session: Session, notice: Notice) -> None:
        """Send a notice; it may be lost."""
        self.send(session, notice)

    def unreachable(self, peer: Peer, now_us: int) -> None:
        """The connection is gone; its session may come back on another one within the lease."""
        session = self._by_peer.pop(peer, None)
        if session is None:
            return
        if session.lost is not None and session.lost.peer == peer:
            session.lost.missed()
        elif session.peer == peer:
            session.peer, session.gone_us = None, now_us
            if not self.terms.by_beats and can_be_found(peer):
                session.lost = LostConnection(peer, now_us + self._seek_us)
        if session.lost is not None:
            self._by_peer[peer] = session

    def close(self, session: Session, ending: Ending) -> list[Event]:
        """End a session: later messages of it are refused. Its epoch is never used again."""
        if not session.alive:
            return []
        session.alive = False
        if session.peer is not None:
            self._by_peer.pop(session.peer, None)
            session.peer = None
        self._give_up_lost(session)
        if self.sessions.get(session.name) is session:
            del self.sessions[session.name]
        self.journal.session_ended(session)
        return [Closed(session, ending)]

    def tick(self, now_us: int) -> list[Event]:
        """Repeat what is due, probe connections, suspect the silent, end what outlived its lease."""
        events: list[Event] = []
        self._probe(now_us)
        for session in list(self.sessions.values()):
            self._seek(session, now_us)
            self.send_due(session, now_us)
            end_us = self.lease_end_us(session)
            if end_us is not None and now_us >= end_us:
                events += self.close(session, Ending.LEASE)
            elif self.terms.by_beats and not session.suspected and now_us >= session.heard_us + self.terms.suspect_us:
                session.suspected = True
                events.append(Moved(session, "suspected"))
        return events

    def wake_us(self) -> int | None:
        if not self.sessions:
            return None
        moments = [None if self.terms.by_beats else self._probe_due_us]
        for session in self.sessions.values():
            moments.append(self.lease_end_us(session))
            if session.lost is not None:
                moments.append(session.lost.wake_us())
            if session.peer is not None:
                moments.append(session.caller.wake_us())
            if self.terms.by_beats and not session.suspected:
                moments.append(session.heard_us + self.terms.suspect_us)
        return earliest(*moments)

    def lease_end_us(self, session: Session) -> int | None:
        """When the session ends unless it is heard or re-attached; None while its connection is its life."""
        start_us = session.heard_us if self.terms.by_beats else session.gone_us
        return None if start_us is None else start_us + self.terms.lease_us + self.terms.drift_margin_us

    def _heard(self, session: Session, now_us: int) -> list[Event]:
        session.heard_us = now_us
        if session.suspected:
            session.suspected = False
            return [Moved(session, "returned")]
        return []

    def _probe(self, now_us: int) -> None:
        if self.terms.by_beats or now_us < self._probe_due_us:
            return
        self._probe_due_us = now_us + self.terms.beat_us
        for session in self.sessions.values():
            self.send(session, Probe())

    @property
    def _seek_us(self) -> int:
        """How often a lost connection is looked for: several times before the lease ends."""
        return min(self.terms.beat_us, self.terms.lease_us // 4)

    def _seek(self, session: Session, now_us: int) -> None:
        """Look whether a lost connection has been made again, and carry the session on it as before."""
        lost = session.lost
        if lost is None:
            return
        if lost.is_back(now_us):
            self._found(session, lost, now_us)
        elif lost.try_again(now_us, self._seek_us):
            self.effects.send(self.link, lost.peer, Envelope(Probe(), session.epoch))

    def _found(self, session: Session, lost: LostConnection, now_us: int) -> None:
        session.peer, session.gone_us, session.lost = lost.peer, None, None
        session.caller.repeat_all(now_us)

    def _give_up_lost(self, session: Session) -> None:
        if session.lost is not None:
            self._by_peer.pop(session.lost.peer, None)
            session.lost = None

    def _hello(self, peer: Peer, hello: Hello, now_us: int) -> list[Event]:
        resolved = self.claims.resolve(hello, now_us)
        if isinstance(resolved, Refused):
            self.effects.send(self.link, peer, Envelope(resolved))
            return []
        hello, refusal = resolved, self.admit(resolved)
        holder = self.sessions.get(hello.name)
        if refusal is None and hello.epoch:
            return self._resume(peer, hello, holder, now_us)
        again = holder is not None and (holder.incarnation, holder.role) == (hello.incarnation, hello.role)
        if refusal is None and holder is not None and again:
            if holder.peer == peer or not holder.proven:
                return self._attach(holder, peer, hello, now_us)
            # Its holder would show the secret: this is a copy of an old HELLO on somebody's connection.
            refusal = refuse(RefusalCode.IN_USE, "the session's epoch and secret", "a HELLO without them", 500)
        if refusal is None and holder is not None and holder.gone_us is None:
            self.send(holder, Probe())
            refusal = name_in_use(holder, hello, self.terms, now_us)
        if refusal is None and holder is None and len(self.sessions) >= self.terms.session_limit:
            limit = f"at most {self.terms.session_limit} sessions"
            refusal = refuse(RefusalCode.SESSIONS_FULL, limit, "one more", 1000)
        if refusal is not None:
            self.effects.send(self.link, peer, Envelope(refusal))
            return []
        events = [] if holder is None else self.close(holder, Ending.REPLACED)
        return events + self._open(peer, hello, now_us)

    def _open(self, peer: Peer, hello: Hello, now_us: int) -> list[Event]:
        epoch = self._next_epoch(hello.name)
        session = Session(hello.role, hello.name, epoch, hello.incarnation, self.entropy(SECRET_BYTES))
        self.sessions[hello.name] = session
        return [*self._attach(session, peer, hello, now_us), Opened(session)]

    def _next_epoch(self, name: str) -> int:
        key = self._epochs_of(name)
        self.epochs[key] = self.epochs.get(key, 0) + 1
        return self.epochs[key]

    def _epochs_of(self, name: str) -> str:
        """Strictly rising per name. Names of connection-lived processes are random: one counter serves them all."""
        return self.claims.family(name) if self.terms.by_beats else ""

    def _attach(self, session: Session, peer: Peer, hello: Hello, now_us: int) -> list[Event]:
        """Carry the session on this connection from now on."""
        if session.peer is not None:
            self._by_peer.pop(session.peer, None)
        self._give_up_lost(session)
        ended: list[Event] = []
        other = self._by_peer.pop(peer, None)
        if other is not None and other is not session:
            # It has left its connection. A session that lives with one has ended then: else one could have any number.
            other.peer, other.lost, other.gone_us = None, None, now_us
            ended = [] if self.terms.by_beats else self.close(other, Ending.REPLACED)
        session.peer, session.gone_us = peer, None
        session.network, session.pid, session.endpoints = hello.network, hello.pid, dict(hello.endpoints)
        self._by_peer[peer] = session
        self.journal.session_opened(session)
        events = self._heard(session, now_us)
        self.send(session, welcome(session, self.terms, resumed=bool(hello.epoch)))
        session.caller.repeat_all(now_us)
        return ended + events

    def _resume(self, peer: Peer, hello: Hello, holder: Session | None, now_us: int) -> list[Event]:
        if holder is not None and (hello.epoch, hello.secret, hello.incarnation, hello.role) == (
            holder.epoch, holder.secret, holder.incarnation, holder.role,
        ):  # fmt: skip
            if holder.peer == peer:
                self.send(holder, welcome(holder, self.terms, resumed=True))
                return self._heard(holder, now_us)
            return [*self._attach(holder, peer, hello, now_us), Moved(holder, "resumed")]
        came = f"epoch {hello.epoch} of {hello.name!r}, which is not alive here"
        refusal = refuse(RefusalCode.SESSION_DEAD, "the epoch and secret of a live session", came)
        self.effects.send(self.link, peer, Envelope(refusal, epoch=hello.epoch))
        return []

    def _refuse(self, peer: Peer, code: RefusalCode, expected: str, came: str, envelope: Envelope) -> None:
        refusal = refuse(code, expected, came)
        self.effects.send(self.link, peer, Envelope(refusal, envelope.epoch, envelope.number))
