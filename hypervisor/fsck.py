"""Whether the rows of a ledger fit together: a check of what every hypervisor leaves behind. Pure.

A ledger is what a commit left, so that each finding here is something that no turn of a hypervisor stores. Windows
beyond the target are none: the hypervisor does not revoke any (domain.md 1), so that is a remark.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hypervisor.change import Change, ChangeState
from hypervisor.configuration import QUEUE_LIMIT
from hypervisor.console import CONSOLE_ROLES
from hypervisor.fault import FaultState
from hypervisor.faults import FAULTS_PER_WINDOW
from hypervisor.finding import Finding, wrong
from hypervisor.ledger import WindowPhase
from hypervisor.row_meaning import label, senseless
from hypervisor.rows import (
    AnswerRow,
    ChangeRow,
    CounterRow,
    FaultRow,
    LedgerWindowRow,
    PartitionRow,
    Row,
    SessionRow,
    UnitGuardRow,
)  # fmt: skip
from protocol.codes import CREDIT_MAX, CreditType
from protocol.exchange import OUTSTANDING_LIMIT
from protocol.hcall_messages import ConfigurationKind
from protocol.link import CONSOLE, FABRIC, HCALL
from protocol.system import ProcessorMode

ROLES = {HCALL.name: ("lpar",), FABRIC.name: ("nxunit",), CONSOLE.name: CONSOLE_ROLES}
COUNTERS = ("window_id", "change", "console_epoch")
Table = TypeVar("Table", bound=Row)


@dataclass(slots=True)
class Books:
    """The rows by what others name them by."""

    rows: Sequence[Row]
    partitions: dict[str, PartitionRow] = field(default_factory=dict)
    windows: dict[int, LedgerWindowRow] = field(default_factory=dict)
    sessions: dict[tuple[str, str], SessionRow] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.partitions = {row.name: row for row in self.of(PartitionRow)}
        self.windows = {row.window_id: row for row in self.of(LedgerWindowRow)}
        self.sessions = {(row.link, row.name): row for row in self.of(SessionRow)}
        self.counters = {row.name: row.value for row in self.of(CounterRow)}

    def of(self, table: type[Table]) -> list[Table]:
        return [row for row in self.rows if isinstance(row, table)]


def check(rows: Sequence[Row]) -> list[Finding]:
    """Everything that is the matter with the rows. Where one makes no sense, their connections are not looked at."""
    found = senseless(rows)
    if found:
        return found
    books = Books(rows)
    for part in (_partitions, _windows, _tokens, _sessions, _answers, _changes, _queues, _faults, _guards, _counters):
        found += part(books)
    return found


def _partitions(books: Books) -> Iterator[Finding]:
    for row in books.partitions.values():
        dedicated = row.mode == ProcessorMode.DEDICATED
        mine, other = (row.cores, row.hundredths) if dedicated else (row.hundredths, row.cores)
        if (mine < 1 or other) and not _is_free_slot(books, row):
            yield wrong(label(row), f"it is {row.mode} and has {row.cores} cores and {row.hundredths} hundredths")
        if row.acknowledged > row.generation:
            came = f"its kernel has acknowledged generation {row.acknowledged}"
            yield wrong(label(row), f"{came}, and there are only {row.generation}")


def _is_free_slot(books: Books, row: PartitionRow) -> bool:
    """Whether it is a slot that nobody has claimed: it has nothing at all, and no session."""
    session = books.sessions.get((HCALL.name, row.name))
    return not (row.cores or row.hundredths or row.qos_credits or (session is not None and session.alive))


def _windows(books: Books) -> Iterator[Finding]:
    """Each window has a partition, a session of its epoch, a phase that fits, and an id that is not given out again."""
    next_id = books.counters.get("window_id", 1)
    for row in books.windows.values():
        if row.window_id >= next_id:
            yield wrong(label(row), f"the next window's id is {next_id}: it would be used twice")
        if row.lpar not in books.partitions:
            yield wrong(label(row), f"there is no partition {row.lpar}")
        if (FABRIC.name, row.unit) not in books.sessions:
            yield wrong(label(row), f"no NX unit {row.unit} was ever here")
        if row.fenced and row.state != WindowPhase.CLOSING:
            yield wrong(label(row), f"it is fenced and {row.state}; a fenced window is closing")
        if row.state in (WindowPhase.PROGRAMMING, WindowPhase.OPEN) and not row.process_id:
            yield wrong(label(row), f"it is {row.state} and bound to no process")
        session = books.sessions.get((HCALL.name, row.lpar))
        if session is None or row.epoch > session.epoch:
            yield wrong(label(row), f"{row.lpar} never had a session with epoch {row.epoch}")
        elif not row.fenced and not (session.alive and row.epoch == session.epoch):
            yield wrong(label(row), f"the session of {row.lpar} with epoch {row.epoch} is over, and it is not fenced")
    yield from _pools(books)


def _pools(books: Books) -> Iterator[Finding]:
    in_use = Counter((row.lpar, row.credit_type) for row in books.windows.values())
    for (lpar, credit_type), count in sorted(in_use.items()):
        if count > CREDIT_MAX:
            name = CreditType(credit_type).name.lower()
            yield wrong(f"partition {lpar}", f"{count} {name} windows; a pool has {CREDIT_MAX} credits at most")


def _tokens(books: Books) -> Iterator[Finding]:
    seen: dict[bytes, int] = {}
    for row in books.windows.values():
        first = seen.setdefault(row.token, row.window_id)
        if first != row.window_id:
            yield wrong(label(row), f"it has the token of window {first}")


def _sessions(books: Books) -> Iterator[Finding]:
    for row in books.sessions.values():
        if row.role not in ROLES[row.link]:
            yield wrong(label(row), f"the role {row.role} has no sessions on the link {row.link}")
        if row.link == HCALL.name and row.alive and row.name not in books.partitions:
            yield wrong(label(row), "it is alive, and there is no such partition")
        if row.link == CONSOLE.name and not row.alive:
            yield wrong(label(row), "it is over, and its row was kept")
        if row.link == CONSOLE.name and row.epoch > books.counters.get("console_epoch", 0):
            yield wrong(label(row), f"epoch {row.epoch} is above the last one that was given to a console")


def _answers(books: Books) -> Iterator[Finding]:
    """Each answer is kept for a live session, which may still ask for it."""
    for row in books.of(AnswerRow):
        session = books.sessions.get((row.link, row.name))
        if row.link == FABRIC.name:
            yield wrong(label(row), "answers to NX units are not kept")
        elif session is None or not session.alive:
            yield wrong(label(row), "it belongs to no live session")
        elif not session.acked_below <= row.number < session.acked_below + OUTSTANDING_LIMIT:
            yield wrong(label(row), f"its caller can ask for {session.acked_below} and {OUTSTANDING_LIMIT - 1} more")


def _changes(books: Books) -> Iterator[Finding]:
    next_order = books.counters.get("change", 1)
    for row in books.of(ChangeRow):
        partition = books.partitions.get(row.lpar)
        change = Change.from_row(row, 0)
        if row.order >= next_order:
            yield wrong(label(row), f"the next change's number is {next_order}: it would be used twice")
        if partition is None:
            yield wrong(label(row), f"there is no partition {row.lpar}")
        elif change.waits_for_kernel and row.generation != partition.generation:
            yield wrong(label(row), f"its generation is {row.generation}, its partition's {partition.generation}")
        elif row.generation > partition.generation:
            yield wrong(label(row), f"its generation {row.generation} is above its partition's {partition.generation}")
        if change.state is ChangeState.QUEUED and row.generation:
            yield wrong(label(row), f"it waits, and has generation {row.generation} already")
        if row.epoch > books.counters.get("console_epoch", 0):
            yield wrong(label(row), f"no console ever had the epoch {row.epoch}")


def _queues(books: Books) -> Iterator[Finding]:
    """One change of a partition is with its kernel, the first of its queue; one expired of each kind is remembered."""
    queues: defaultdict[str, list[Change]] = defaultdict(list)
    expired: Counter[tuple[str, str]] = Counter()
    for row in sorted(books.of(ChangeRow), key=lambda row: row.order):
        change = Change.from_row(row, 0)
        if change.state is ChangeState.EXPIRED:
            expired[change.lpar, _memory(change)] += 1
        else:
            queues[change.lpar].append(change)
    for lpar, queue in queues.items():
        who = f"partition {lpar}"
        if any(change.waits_for_kernel for change in queue[1:]):
            yield wrong(who, "a change is with the kernel that is not the first in its queue")
        if not queue[0].waits_for_kernel:
            yield wrong(who, "changes wait, and none is with the kernel")
        if len(queue) > QUEUE_LIMIT:
            yield wrong(who, f"{len(queue)} changes wait; the limit is {QUEUE_LIMIT}")
    for (lpar, kind), count in expired.items():
        if count > 1:
            yield wrong(f"partition {lpar}", f"{count} expired changes of {kind} are kept, expected the newest")


def _memory(change: Change) -> str:
    """What an expired change is remembered as: the newest of each is."""
    if change.kind is ConfigurationKind.MIGRATION:
        return "its place"
    return "QoS credits" if change.credit_type is CreditType.QOS else "processors"


def _faults(books: Books) -> Iterator[Finding]:
    by_window: defaultdict[int, list[FaultRow]] = defaultdict(list)
    for row in books.of(FaultRow):
        by_window[row.window_id].append(row)
        if row.window_id not in books.windows:
            yield wrong(label(row), f"there is no window {row.window_id}")
    for window_id, faults in by_window.items():
        who = f"window {window_id}"
        if len(faults) > FAULTS_PER_WINDOW:
            yield wrong(who, f"{len(faults)} faults are kept; the limit is {FAULTS_PER_WINDOW}")
        settled = sum(row.state == FaultState.SETTLED for row in faults)
        if settled > 1:
            yield wrong(who, f"{settled} settled faults are kept, expected the newest alone")


def _guards(books: Books) -> Iterator[Finding]:
    """Each was named in a session of its unit."""
    for row in books.of(UnitGuardRow):
        session = books.sessions.get((FABRIC.name, row.unit))
        if session is None or row.epoch > session.epoch:
            yield wrong(label(row), f"{row.unit} never had a session with epoch {row.epoch}")


def _counters(books: Books) -> Iterator[Finding]:
    for name in sorted(books.counters.keys() - set(COUNTERS)):
        yield wrong(f"CounterRow {name}", f"there is no such counter; there are {', '.join(COUNTERS)}")
