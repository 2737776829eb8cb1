"""The rows of the ledger: what must outlive the process, one dataclass per table, its key first.

The store makes its tables from these classes. Values are int, str or bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

SCHEMA_VERSION = 4
"""2 added `FaultRow`, 3 migrations among the changes, 4 `UnitGuardRow`. A table that an older ledger does not have is
made when it is opened.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A table's row; the first `KEY` fields are its primary key."""

    KEY: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class PartitionRow(Row):
    """A partition's configuration and how far its kernel has followed it."""

    name: str
    mode: str
    cores: int
    hundredths: int
    qos_credits: int
    home_chip: int
    generation: int
    acknowledged: int
    held: int


@dataclass(frozen=True, slots=True)
class LedgerWindowRow(Row):
    """A window: one credit of its partition's pool for as long as the row exists."""

    window_id: int
    lpar: str
    epoch: int
    credit_type: int
    unit: str
    state: str
    token: bytes
    process_id: int
    fenced: int


@dataclass(frozen=True, slots=True)
class SessionRow(Row):
    """A session, alive or not: the epoch of a name never falls."""

    KEY: ClassVar[int] = 2
    link: str
    name: str
    role: str
    epoch: int
    alive: int
    incarnation: bytes
    secret: bytes
    network: str
    pid: int
    endpoints: bytes
    acked_below: int


@dataclass(frozen=True, slots=True)
class AnswerRow(Row):
    """The answer to a request, kept until the caller says that it has it."""

    KEY: ClassVar[int] = 3
    link: str
    name: str
    number: int
    envelope: bytes


@dataclass(frozen=True, slots=True)
class ChangeRow(Row):
    """A change of configuration that is not finished, so that its repeated request does not apply it twice.

    `console`, `epoch` and `number` are the session and the request that asked for it.
    """

    KEY: ClassVar[int] = 2
    lpar: str
    order: int
    kind: str
    amount: int
    generation: int
    state: str
    total_before: int
    console: str
    epoch: int
    number: int
    wait_ms: int


@dataclass(frozen=True, slots=True)
class FaultRow(Row):
    """A translation fault of a window. 64-bit numbers of the sender are 8 bytes, most significant first."""

    KEY: ClassVar[int] = 2
    window_id: int
    number: bytes
    function: int
    operand: str
    fault_address: bytes
    csb_address: bytes
    state: str


@dataclass(frozen=True, slots=True)
class UnitGuardRow(Row):
    """A process that acted as an NX unit, by its guard, and may take pastes. `epoch`: the session that named it."""

    KEY: ClassVar[int] = 2
    unit: str
    guard: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class CounterRow(Row):
    """A number that only rises: `window_id`, `change`, `console_epoch`."""

    name: str
    value: int


ROW_TYPES: tuple[type[Row], ...] = (
    PartitionRow, LedgerWindowRow, SessionRow, AnswerRow, ChangeRow, FaultRow, UnitGuardRow, CounterRow,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Put:
    """Insert or replace a row."""

    row: Row


@dataclass(frozen=True, slots=True)
class Drop:
    """Delete the row with this key."""

    table: type[Row]
    key: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class DropAnswers:
    """Delete the answers of a session below a number."""

    link: str
    name: str
    below: int


Write = Put | Drop | DropAnswers
