"""A counter behind a listener. Its effects and its journal commit together, as the hypervisor's do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.effects import Effects, Peer
from protocol.hcall_messages import Configuration
from protocol.listener import Listener
from protocol.message import Message
from protocol.session import Called, Event, Session, Terms
from protocol.wire import Envelope

Write = Callable[["Disk"], None]
Key = tuple[bytes, int]
"""A request: the incarnation that made it and its number."""


@dataclass(slots=True)
class KeptSession:
    """What the journal has of one session."""

    name: str
    epoch: int
    incarnation: bytes
    secret: bytes
    acked_below: int
    answers: dict[int, Message] = field(default_factory=dict)


@dataclass(slots=True)
class Disk:
    """What survives the listener's process. `executed` counts how often each request was carried out."""

    sessions: dict[str, KeptSession] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    executed: dict[Key, int] = field(default_factory=dict)
    answers: dict[Key, Message] = field(default_factory=dict)
    total: int = 0


class DiskJournal:
    """Turns what the listener tells into writes of the cycle; copies, because the session goes on changing."""

    def __init__(self, writes: list[Write]) -> None:
        self.writes = writes

    def session_opened(self, session: Session) -> None:
        name, epoch, acked_below = session.name, session.epoch, session.callee.acked_below
        answers = dict(session.callee.answers)
        kept = KeptSession(name, epoch, session.incarnation, session.secret, acked_below, answers)

        def write(disk: Disk) -> None:
            disk.sessions[name] = kept
            disk.epochs[name] = max(epoch, disk.epochs.get(name, 0))

        self.writes.append(write)

    def session_ended(self, session: Session) -> None:
        name, epoch = session.name, session.epoch

        def write(disk: Disk) -> None:
            kept = disk.sessions.get(name)
            if kept is not None and kept.epoch == epoch:
                del disk.sessions[name]

        self.writes.append(write)

    def answered(self, session: Session, number: int, answer: Message) -> None:
        name = session.name

        def write(disk: Disk) -> None:
            disk.sessions[name].answers[number] = answer

        self.writes.append(write)

    def acknowledged(self, session: Session) -> None:
        name, below = session.name, session.callee.acked_below

        def write(disk: Disk) -> None:
            kept = disk.sessions[name]
            kept.acked_below = below
            kept.answers = {number: answer for number, answer in kept.answers.items() if number >= below}

        self.writes.append(write)


class CounterProcess:
    """One life of the listening process. Each request adds one to the counter; its answer is the new total."""

    def __init__(self, terms: Terms, disk: Disk, entropy: Callable[[int], bytes]) -> None:
        self.disk = disk
        self.writes: list[Write] = []
        self.effects = Effects()
        self.listener = Listener("hcall", terms, self.effects, entropy, journal=DiskJournal(self.writes))
        self.total = disk.total
        self.put_off: list[Called] = []
        """Requests whose answer is still to come."""

    def start(self, keeps_sessions: bool, now_us: int) -> None:
        """Go on from the disk."""
        sessions = [_revived(kept) for kept in self.disk.sessions.values()] if keeps_sessions else []
        if not keeps_sessions:
            self.disk.sessions.clear()
        self.listener.restore(sessions, self.disk.epochs, now_us)

    def receive(self, peer: Peer, envelope: Envelope, now_us: int) -> list[Event]:
        return self.listener.receive(peer, envelope, now_us)

    def carry_out(self, call: Called) -> None:
        """Add one, remember that, answer: all in this cycle's transaction."""
        self.total += 1
        total, key = self.total, (call.session.incarnation, call.number)
        answer = Configuration(generation=total)

        def write(disk: Disk) -> None:
            disk.total = total
            disk.executed[key] = disk.executed.get(key, 0) + 1
            disk.answers[key] = answer

        self.writes.append(write)
        self.listener.answer(call.session, call.number, answer)

    def commit(self) -> None:
        """Store the cycle's writes, all of them."""
        for write in self.writes:
            write(self.disk)
        self.writes.clear()


def _revived(kept: KeptSession) -> Session:
    session = Session("lpar", kept.name, kept.epoch, kept.incarnation, kept.secret)
    session.callee.acked_below = kept.acked_below
    session.callee.answers = dict(kept.answers)
    return session
