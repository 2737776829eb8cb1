"""The ledger on disk: SQLite in WAL mode with synchronous=FULL. One commit per turn of the node loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hypervisor.rows import ROW_TYPES, SCHEMA_VERSION, AnswerRow, Drop, DropAnswers, Put, Row
from hypervisor.store_failure import ADVICE, failure, foreign
from protocol.codes import ExitCode
from protocol.node import StoreError

COLUMN_TYPES = {"int": "INTEGER", "str": "TEXT", "bytes": "BLOB"}
LOCK_PATIENCE_S = 5.0
"""How long to wait for an earlier process that still has the ledger."""


class LedgerStore:
    """Rows in SQLite, locked for this process. Every method raises StoreError with what failed and where.

    A file that is no ledger, a newer or a damaged one is refused before anything is written to it. `name` is the path
    that errors name, where it is not the one that is opened.
    """

    def __init__(self, path: Path, patience_s: float = LOCK_PATIENCE_S, name: Path | None = None) -> None:
        self.path = name or path
        self.opened_path = path
        if path.exists() and not path.is_file():
            raise foreign(self.path, "it is no file")
        try:
            self.database = sqlite3.connect(path, timeout=patience_s, isolation_level=None)
        except sqlite3.Error as error:
            raise self._failure("open", error) from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self.close()
            raise self._failure("open", error) from error
        except StoreError:
            self.close()
            raise

    def _prepare(self) -> None:
        self.database.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._check_schema()
        self._check_pages()
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=FULL")
        self.database.execute("BEGIN IMMEDIATE")
        for table in ROW_TYPES:
            self.database.execute(_create(table))
        self.database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.database.execute("COMMIT")

    def load(self) -> list[Row]:
        """Every row, table by table, in order of their keys."""
        rows: list[Row] = []
        try:
            for table in ROW_TYPES:
                self._check_types(table)
                key = ", ".join(f'"{name}"' for name in _columns(table)[: table.KEY])
                cursor = self.database.execute(f'SELECT * FROM "{table.__name__}" ORDER BY {key}')
                rows += [table(*values) for values in cursor]
        except sqlite3.Error as error:
            raise self._failure("read", error) from error
        return rows

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

    def complaints(self, limit: int) -> list[str]:
        """What SQLite's whole check of the pages finds wrong, `limit` lines at most."""
        try:
            found = [str(row[0]) for row in self.database.execute(f"PRAGMA integrity_check({limit})")]
        except sqlite3.Error as error:
            raise self._failure("check", error) from error
        return [] if found == ["ok"] else found

    def close(self) -> None:
        """Give the file back; what was not committed is gone."""
        self.database.close()

    def _apply(self, write: object) -> None:
        if isinstance(write, Put):
            statement, names = INSERTS[type(write.row)]
            self.database.execute(statement, [getattr(write.row, name) for name in names])
        elif isinstance(write, Drop):
            where = " AND ".join(f'"{name}" = ?' for name in _columns(write.table)[: write.table.KEY])
            self.database.execute(f'DELETE FROM "{write.table.__name__}" WHERE {where}', write.key)
        elif isinstance(write, DropAnswers):
            self.database.execute(
                f'DELETE FROM "{AnswerRow.__name__}" WHERE "link" = ? AND "name" = ? AND "number" < ?',
                (write.link, write.name, write.below),
            )
        else:
            raise TypeError(f"{type(write).__name__} is no write of the ledger")

    # What is in the file.

    def _check_schema(self) -> None:
        """The tables are ours, all of them, as this release writes them; an older ledger may lack some."""
        version = int(self.database.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: written by a newer release (schema {version}, this one knows {SCHEMA_VERSION}): "
                "use that release, or start with another ledger",
                ExitCode.STORE_VERSION,
            )
        found = {str(row[0]) for row in self.database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        known = {table.__name__ for table in ROW_TYPES}
        others = sorted(found if version < 1 else found - known)
        if others:
            raise foreign(self.path, f"it is a database with the table {others[0]} and schema {version}")
        missing = sorted(known - found)
        if version == SCHEMA_VERSION and missing:
            raise self._damaged(f"it has no table {missing[0]}")
        for table in ROW_TYPES:
            if table.__name__ in found:
                self._check_columns(table)

    def _check_columns(self, table: type[Row]) -> None:
        found = [str(column[1]) for column in self.database.execute(f'PRAGMA table_info("{table.__name__}")')]
        if found != _columns(table):
            raise StoreError(
                f"{self.path}: its table {table.__name__} has the columns {', '.join(found)}, expected "
                f"{', '.join(_columns(table))}: use the release that wrote it, or start with another ledger",
                ExitCode.STORE_VERSION,
            )

    def _check_pages(self) -> None:
        complaint = self.database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if complaint != "ok":
            raise self._damaged(complaint)

    def _check_types(self, table: type[Row]) -> None:
        """SQLite keeps any value in any column: one that is not of its column's type is damage."""
        wrong = " OR ".join(
            f"typeof(\"{field.name}\") <> '{COLUMN_TYPES[str(field.type)].lower()}'" for field in fields(table)
        )
        row = self.database.execute(f'SELECT * FROM "{table.__name__}" WHERE {wrong} LIMIT 1').fetchone()
        if row is not None:
            key = ", ".join(f"{value!r:.60}" for value in row[: table.KEY])
            raise self._damaged(f"{table.__name__} {key}: a value is not of its column's type")

    def _damaged(self, complaint: str) -> StoreError:
        advice = ADVICE[ExitCode.STORE_DAMAGED]
        return StoreError(f"{self.path}: the ledger is damaged: {complaint}: {advice}", ExitCode.STORE_DAMAGED)

    def _failure(self, what: str, error: Exception) -> StoreError:
        return failure(self.path, self.opened_path, what, error)


def _columns(table: type[Row]) -> list[str]:
    return [field.name for field in fields(table)]


def _insert(table: type[Row]) -> tuple[str, list[str]]:
    names = _columns(table)
    return f'INSERT OR REPLACE INTO "{table.__name__}" VALUES ({", ".join("?" * len(names))})', names


def _create(table: type[Row]) -> str:
    columns = ", ".join(f'"{field.name}" {COLUMN_TYPES[str(field.type)]} NOT NULL' for field in fields(table))
    key = ", ".join(f'"{name}"' for name in _columns(table)[: table.KEY])
    return f'CREATE TABLE IF NOT EXISTS "{table.__name__}" ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID'


INSERTS = {table: _insert(table) for table in ROW_TYPES}
"""The statement that stores a row of a table, and the columns that it wants."""
