"""Sessions and answers as rows, so that a restarted hypervisor goes on where it was killed. Pure."""

from __future__ import annotations

import msgpack

from hypervisor.rows import AnswerRow, CounterRow, Drop, DropAnswers, Put, Row, SessionRow
from protocol.effects import Effects
from protocol.link import Link
from protocol.message import Message
from protocol.session import Session
from protocol.wire import Envelope, decode, encode

EVERY_ANSWER = (1 << 63) - 1
"""Above the number of any request but the last that a session can have."""
CONSOLE_EPOCH = "console_epoch"


class SessionJournal:
    """The journal of one link's listener."""

    def __init__(self, link: Link, effects: Effects) -> None:
        self.link = link
        self.effects = effects

    def session_opened(self, session: Session) -> None:
        self._put(session)

    def session_ended(self, session: Session) -> None:
        self._put(session)
        self.effects.writes.append(DropAnswers(self.link.name, session.name, EVERY_ANSWER))

    def answered(self, session: Session, number: int, answer: Message) -> None:
        blob = encode(Envelope(answer))[0]
        self.effects.writes.append(Put(AnswerRow(self.link.name, session.name, number, blob)))

    def acknowledged(self, session: Session) -> None:
        self._put(session)
        self.effects.writes.append(DropAnswers(self.link.name, session.name, session.callee.acked_below))

    def _put(self, session: Session) -> None:
        row = SessionRow(
            self.link.name, session.name, session.role, session.epoch, int(session.alive), session.incarnation,
            session.secret, session.network, session.pid, msgpack.packb(session.endpoints),
            session.callee.acked_below,
        )  # fmt: skip
        self.effects.writes.append(Put(row))

    def restore(self, rows: list[Row]) -> tuple[list[Session], dict[str, int]]:
        """The live sessions with their kept answers, and the last epoch of every name."""
        sessions: dict[str, Session] = {}
        epochs: dict[str, int] = {}
        for row in rows:
            if isinstance(row, SessionRow) and row.link == self.link.name:
                epochs[row.name] = row.epoch
                if row.alive:
                    sessions[row.name] = _session(row)
        for row in rows:
            if isinstance(row, AnswerRow) and row.link == self.link.name and row.name in sessions:
                answer = decode([row.envelope], self.link.down).body
                sessions[row.name].callee.answers[row.number] = answer
        return list(sessions.values()), epochs


class ConsoleJournal(SessionJournal):
    """Console names are random: nothing of an ended session is kept but the last epoch, one counter for all names."""

    last_epoch = 0

    def session_opened(self, session: Session) -> None:
        super().session_opened(session)
        if session.epoch > self.last_epoch:
            self.last_epoch = session.epoch
            self.effects.writes.append(Put(CounterRow(CONSOLE_EPOCH, session.epoch)))

    def restore(self, rows: list[Row]) -> tuple[list[Session], dict[str, int]]:
        sessions, _ = super().restore(rows)
        counters = [row.value for row in rows if isinstance(row, CounterRow) and row.name == CONSOLE_EPOCH]
        self.last_epoch = max(counters, default=0)
        return sessions, {"": self.last_epoch}

    def session_ended(self, session: Session) -> None:
        super().session_ended(session)
        self.effects.writes.append(Drop(SessionRow, (self.link.name, session.name)))


class EpochJournal(SessionJournal):
    """Keeps epochs alone: after a restart an NX unit gets a new session and is reconciled.

    `expected`: the units that had a session when the earlier process ended and have none yet.
    """

    def __init__(self, link: Link, effects: Effects) -> None:
        super().__init__(link, effects)
        self.expected: dict[str, Session] = {}

    def session_opened(self, session: Session) -> None:
        super().session_opened(session)
        self.expected.pop(session.name, None)

    def give_up(self, unit: str) -> None:
        """The unit did not come back in time: the next process need not wait for it."""
        session = self.expected.pop(unit)
        session.alive = False
        self._put(session)

    def answered(self, session: Session, number: int, answer: Message) -> None:
        """The unit repeats what it said when it has a new session."""

    def acknowledged(self, session: Session) -> None:
        """Nothing was kept."""

    def restore(self, rows: list[Row]) -> tuple[list[Session], dict[str, int]]:
        sessions, epochs = super().restore(rows)
        self.expected = {session.name: session for session in sessions}
        return [], epochs


def _session(row: SessionRow) -> Session:
    session = Session(row.role, row.name, row.epoch, row.incarnation, row.secret, row.network, row.pid)
    session.endpoints = msgpack.unpackb(row.endpoints)
    session.callee.acked_below = row.acked_below
    return session
