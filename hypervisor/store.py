"""The ledger on disk: SQLite in WAL mode with synchronous=FULL. One commit per turn of the node loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import BinaryIO

from hypervisor.ledger_check import COLUMN_TYPES, checked_rows, columns, rows_of
from hypervisor.ledger_files import copied, lock, logs
from hypervisor.rows import ROW_TYPES, SCHEMA_VERSION, AnswerRow, Drop, DropAnswers, Put, Row
from hypervisor.store_failure import failure, foreign, no_copy
from protocol.codes import ExitCode
from protocol.node import StoreError

LOCK_PATIENCE_S = 5.0
"""How long to wait for an earlier process that still has the ledger."""


def any_rows(_rows: list[Row], _path: Path) -> None:
    """Take the rows as they are."""


class LedgerStore:
    """Rows in SQLite, locked for this process. Every method raises StoreError with what failed and where.

    What is refused is not written: a file that is no ledger, a newer or a damaged one, or rows that `judge(rows, path)`
    refuses with StoreError. Only then is an older ledger made one of this release, and a log that was left moved into
    it. `found`: the rows that were in it.
    """

    def __init__(
        self,
        path: Path,
        patience_s: float = LOCK_PATIENCE_S,
        judge: Callable[[list[Row], Path], None] = any_rows,
    ) -> None:
        self.path = path
        self.judge = judge
        self.found: list[Row] = []
        self.guard = self._lock(patience_s)
        try:
            checked = self._check_copy()
            self.database = sqlite3.connect(path, timeout=patience_s, isolation_level=None)
        except sqlite3.Error as error:
            self._unlock()
            raise self._failure("open", error) from error
        except StoreError:
            self._unlock()
            raise
        try:
            self._prepare(checked)
        except sqlite3.Error as error:
            self.close()
            raise self._failure("open", error) from error
        except StoreError:
            self.close()
            raise

    def _lock(self, patience_s: float) -> BinaryIO | None:
        """Keep others from a ledger that is there; SQLite's own lock comes on top, without a gap.

        None where there is no file that could be written: then SQLite says why.
        """
        try:
            if not self.path.exists():
                return None
            if not self.path.is_file():
                raise foreign(self.path, "it is no file")
        except OSError as error:
            raise StoreError(f"{self.path}: could not open the ledger: {error.strerror}") from None
        try:
            return lock(self.path, alone=True, patience_s=patience_s)
        except BlockingIOError as error:
            raise failure(self.path, self.path, "open", error, ExitCode.STORE_LOCKED) from None
        except OSError:
            return None

    def _unlock(self) -> None:
        if self.guard is not None:
            self.guard.close()
            self.guard = None

    def _check_copy(self) -> bool:
        """Check a copy where a log was left, because opening the ledger itself would move that into it.

        Whether it was done: not where there is no log. Raises StoreError also where there is no room for a copy.
        """
        if self.guard is None or not any(logs(self.path)):
            return False
        try:
            with copied(self.guard, self.path) as place, closing(sqlite3.connect(place)) as database:
                database.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._check(database)
        except OSError as error:
            raise no_copy(self.path, error) from error
        return True

    def _check(self, database: sqlite3.Connection) -> None:
        self.found = checked_rows(database, self.path)
        self.judge(self.found, self.path)

    def _prepare(self, checked: bool) -> None:
        self.database.execute("PRAGMA locking_mode=EXCLUSIVE")
        if not checked:
            self._check(self.database)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=FULL")
        self.database.execute("BEGIN IMMEDIATE")
        for table in ROW_TYPES:
            self.database.execute(_create(table))
        self.database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.database.execute("COMMIT")

    def load(self) -> list[Row]:
        """Every row, table by table, in order of their keys."""
        try:
            return [row for table in ROW_TYPES for row in rows_of(self.database, table, self.path)]
        except sqlite3.Error as error:
            raise self._failure("read", error) from error

    def commit(self, writes: Sequence[object]) -> None:
        """All of a turn's writes in one transaction, on the disk when this returns."""
        try:
            self.database.execute("BEGIN IMMEDIATE")
            for write in writes:
                self._apply(write)
            self.database.execute("COMMIT")
        except (sqlite3.Error, OverflowError) as error:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            raise self._failure("write", error) from error

    def close(self) -> None:
        """Give the file back; what was not committed is gone."""
        self.database.close()
        self._unlock()

    def _apply(self, write: object) -> None:
        if isinstance(write, Put):
            statement, names = INSERTS[type(write.row)]
            self.database.execute(statement, [getattr(write.row, name) for name in names])
        elif isinstance(write, Drop):
            where = " AND ".join(f'"{name}" = ?' for name in columns(write.table)[: write.table.KEY])
            self.database.execute(f'DELETE FROM "{write.table.__name__}" WHERE {where}', write.key)
        elif isinstance(write, DropAnswers):
            self.database.execute(
                f'DELETE FROM "{AnswerRow.__name__}" WHERE "link" = ? AND "name" = ? AND "number" < ?',
                (write.link, write.name, write.below),
            )
        else:
            raise TypeError(f"{type(write).__name__} is no write of the ledger")

    def _failure(self, what: str, error: Exception) -> StoreError:
        return failure(self.path, self.path, what, error)


def _insert(table: type[Row]) -> tuple[str, list[str]]:
    names = columns(table)
    return f'INSERT OR REPLACE INTO "{table.__name__}" VALUES ({", ".join("?" * len(names))})', names


def _create(table: type[Row]) -> str:
    described = ", ".join(f'"{field.name}" {COLUMN_TYPES[str(field.type)]} NOT NULL' for field in fields(table))
    key = ", ".join(f'"{name}"' for name in columns(table)[: table.KEY])
    return f'CREATE TABLE IF NOT EXISTS "{table.__name__}" ({described}, PRIMARY KEY ({key})) WITHOUT ROWID'


INSERTS = {table: _insert(table) for table in ROW_TYPES}
"""The statement that stores a row of a table, and the columns that it wants."""
