"""The holding end of a session: it says HELLO, beats, notices silence and dials anew. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.clock import MILLISECOND_US, earliest
from protocol.effects import DIALLED, Dial, Effects, Hangup
from protocol.exchange import OUTSTANDING_LIMIT
from protocol.message import Request
from protocol.refusals import RefusalCode
from protocol.session import Ended, Established, Event, Session, SessionEnd, Terms
from protocol.session_messages import Beat, BeatEcho, Bye, ByeDone, Hello, Probe, Refused, Welcome
from protocol.wire import Envelope

HELLO_REPEAT_US = 500 * MILLISECOND_US
PROBES_MISSED = 3
"""Probes of a connection-lived session that may fail to come before the connection is left."""
BEATS_REMEMBERED = 16
WAITS = {
    RefusalCode.IN_USE: "name_in_use",
    RefusalCode.SLOTS_FULL: "slots_full",
    RefusalCode.NO_PROCESSORS: "no_processors",
}
"""What a HELLO may have to wait for, and how that is logged."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the dialling process is. `incarnation` is 16 fresh random bytes for each start.

    With the role `slot` the name is that of the template: which partition it is, WELCOME says.
    """

    role: str
    name: str
    incarnation: bytes
    network: str
    pid: int
    endpoints: dict[str, str]


class Dialer(SessionEnd):
    """One session at somebody else's listener.

    While it has none it says HELLO every HELLO_REPEAT_US; after `terms.suspect_us` of silence in which something was
    due, it leaves the connection and re-attaches on a new one. What is due: WELCOME, a beat's echo, an answer, or the
    probes that WELCOME promised (their absence shows a connection that ZeroMQ re-made under the session: the listener
    does not know the new one). Silence never ends the session here: only a refusal does, which comes out as `Ended`.
    A name in use is asked for again and again: its holder may be a dead incarnation whose lease has not run out, and
    a restart of the listener gives that one a full new lease. The listener says when the holder certainly lives.
    """

    def __init__(self, link: str, endpoint: str, identity: Identity, terms: Terms, effects: Effects) -> None:
        super().__init__(link, effects)
        self.endpoint = endpoint
        self.identity = identity
        self.terms = terms
        self.session = self._fresh_session()
        self.established = False
        self.ended = False
        self.lease_anchor_us: int | None = None
        self._hello_due_us: int | None = None
        self._hello_said_us = 0
        self._is_waiting_noted = False
        self._silent_since_us = 0
        self._beat_due_us = 0
        self._beat_us = 0
        self._probe_us = 0
        self._sequence = 0
        self._beats: dict[int, int] = {}
        self._leaving = False
        self._bye_due_us: int | None = None

    def _fresh_session(self) -> Session:
        who = self.identity
        return Session(who.role, who.name, 0, who.incarnation, b"", who.network, who.pid, dict(who.endpoints))

    def open(self, now_us: int) -> None:
        """Dial and say HELLO; `Established` follows."""
        self._redial(now_us)

    def start_over(self, incarnation: bytes, now_us: int) -> None:
        """After `Ended`: become a new incarnation with a session of its own."""
        who = self.identity
        self.identity = Identity(who.role, who.name, incarnation, who.network, who.pid, who.endpoints)
        self.session.alive = False
        self.session = self._fresh_session()
        self.ended = False
        self.lease_anchor_us = None
        self._beats.clear()
        self._is_waiting_noted = False
        self._leaving = False
        self._redial(now_us)

    def receive(self, envelope: Envelope, now_us: int) -> list[Event]:
        """Take a message in; what it means for the role comes back as events."""
        body = envelope.body
        if self.ended:
            return []
        self._silent_since_us = now_us
        if isinstance(body, Welcome):
            return self._welcomed(body, now_us)
        if isinstance(body, Refused) and not envelope.number:
            return self._refused(body, envelope.epoch, now_us)
        if isinstance(body, Refused) and body.code in (RefusalCode.NO_SESSION, RefusalCode.EPOCH):
            return self._refused(body, envelope.epoch, now_us)
        if not self.established or envelope.epoch != self.session.epoch:
            return []
        if isinstance(body, BeatEcho):
            sent_us = self._beats.pop(body.sequence, None)
            if sent_us is not None:
                self.lease_anchor_us = max(sent_us, self.lease_anchor_us or 0)
        if isinstance(body, ByeDone):
            self._end()
        if isinstance(body, Probe | ByeDone):
            return []
        return self.exchange(self.session, envelope, now_us)

    def tick(self, now_us: int) -> None:
        """Say HELLO, beat, repeat what is due, or leave a silent connection."""
        if self.ended:
            return
        if self._answer_is_due and now_us >= self._silent_since_us + self._patience_us:
            self._redial(now_us)
        elif not self.established and self._hello_due_us is not None and now_us >= self._hello_due_us:
            self._say_hello(now_us)
        if self.established:
            if self._beat_us and now_us >= self._beat_due_us:
                self._beat(now_us)
            if self._leaving:
                self._repeat_bye(now_us)
            self.send_due(self.session, now_us)

    def wake_us(self) -> int | None:
        if self.ended:
            return None
        suspicion_us = self._silent_since_us + self._patience_us if self._answer_is_due else None
        if not self.established:
            return earliest(self._hello_due_us, suspicion_us)
        beat_due_us = self._beat_due_us if self._beat_us else None
        bye_due_us = (self._bye_due_us or self._silent_since_us) if self._leaving else None
        return earliest(suspicion_us, beat_due_us, bye_due_us, self.session.caller.wake_us())

    @property
    def leaving(self) -> bool:
        """Whether we have said BYE: then a dead session is no more than its answer that was lost."""
        return self._leaving

    def say_bye(self) -> None:
        """End the session of our own accord, and say so until it is heard.

        `ended` is true from the arrival of ByeDone on, or of the word that the session is dead (`Ended`).
        """
        if self.established:
            self._leaving, self._bye_due_us = True, None
            self.send(self.session, Bye())

    def hang_up(self) -> None:
        """Leave for good."""
        self.ended = True
        self.session.peer = None
        self.effects.transmissions.append(Hangup(self.link))

    def call(self, session: Session, body: Request, now_us: int) -> int:
        """Ask the listener; silence counts from the first unanswered request."""
        if not session.caller.is_waiting:
            self._silent_since_us = now_us
        return super().call(session, body, now_us)

    @property
    def _answer_is_due(self) -> bool:
        """Whether silence means anything: we wait for WELCOME, an echo, a probe or an answer."""
        if not self.established:
            return self._hello_due_us is not None
        return bool(self._beat_us or self._probe_us) or self.session.caller.is_waiting

    @property
    def _patience_us(self) -> int:
        """How much silence is too much; a listener that probes seldom is given time for some probes."""
        return max(self.terms.suspect_us, PROBES_MISSED * self._probe_us if self.established else 0)

    def _redial(self, now_us: int) -> None:
        self.established = False
        self.session.peer = None
        self._silent_since_us = now_us
        self.effects.transmissions.append(Dial(self.link, self.endpoint))
        self._say_hello(now_us)

    def _say_hello(self, now_us: int) -> None:
        who = self.identity
        hello = Hello(
            role=who.role,
            name=who.name,
            incarnation=who.incarnation,
            network=who.network,
            epoch=self.session.epoch,
            secret=self.session.secret,
            pid=who.pid,
            endpoints=who.endpoints,
        )
        self._hello_said_us, self._hello_due_us = now_us, now_us + HELLO_REPEAT_US
        self.effects.send(self.link, DIALLED, Envelope(hello))

    def _welcomed(self, welcome: Welcome, now_us: int) -> list[Event]:
        session = self.session
        resumed = bool(session.epoch)
        if resumed and (session.name, session.epoch) != (welcome.name, welcome.epoch):
            return []
        self._is_waiting_noted = False
        already = self.established
        session.name, session.epoch, session.secret = welcome.name, welcome.epoch, welcome.secret
        session.peer = DIALLED
        session.caller.limit = min(OUTSTANDING_LIMIT, welcome.outstanding)
        self.established, self._hello_due_us = True, None
        self._beat_us = welcome.beat_ms * MILLISECOND_US
        self._probe_us = welcome.probe_ms * MILLISECOND_US
        if self._beat_us and not already:
            self._beat(now_us)
        if already:
            return []
        session.caller.repeat_all(now_us)
        self.send_due(session, now_us)
        return [Established(session, resumed)]

    def _refused(self, refusal: Refused, epoch: int, now_us: int) -> list[Event]:
        if refusal.code in (RefusalCode.NO_SESSION, RefusalCode.EPOCH):
            if self.established:
                self._detached(now_us)
            return []
        if not refusal.is_definite:
            if not self.established:
                self._say_once_what_is_waited_for(refusal)
                # The wait was asked for: silence counts from its end.
                self._hello_due_us = now_us + (refusal.after_ms * MILLISECOND_US or HELLO_REPEAT_US)
                self._silent_since_us = self._hello_due_us
            return []
        if refusal.code is RefusalCode.SESSION_DEAD:
            if epoch != self.session.epoch:
                return []
        elif self.established:
            return []
        self._end()
        return [Ended(self.session, refusal)]

    def _say_once_what_is_waited_for(self, refusal: Refused) -> None:
        event = WAITS.get(refusal.code)
        if event is not None and not self._is_waiting_noted:
            self._is_waiting_noted = True
            self.effects.note("warning", event, name=self.identity.name, came=refusal.came, advice=refusal.advice)

    def _detached(self, now_us: int) -> None:
        """The listener does not know this connection (any more): HELLO, but not at the speed of its refusals."""
        self.established = False
        self.session.peer = None
        self._hello_due_us = max(now_us, self._hello_said_us + HELLO_REPEAT_US)
        if self._hello_due_us == now_us:
            self._say_hello(now_us)

    def _end(self) -> None:
        self.ended = True
        self.established = False
        self.session.alive = False
        self.session.peer = None

    def _repeat_bye(self, now_us: int) -> None:
        """BYE once more when the last one has gone unanswered for a while; the first had no time to count from."""
        if self._bye_due_us is not None and now_us >= self._bye_due_us:
            self.send(self.session, Bye())
            self._bye_due_us = None
        if self._bye_due_us is None:
            self._bye_due_us = now_us + HELLO_REPEAT_US

    def _beat(self, now_us: int) -> None:
        self._sequence += 1
        self._beats[self._sequence] = now_us
        self._beats.pop(self._sequence - BEATS_REMEMBERED, None)
        self._beat_due_us = now_us + self._beat_us
        self.send(self.session, Beat(sequence=self._sequence))
