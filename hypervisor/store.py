"""The ledger on disk: SQLite in WAL mode with synchronous=FULL. One commit per turn of the node loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hypervisor.rows import ROW_TYPES, SCHEMA_VERSION, AnswerRow, Drop, DropAnswers, Put, Row
from protocol.node import StoreError

COLUMN_TYPES = {"int": "INTEGER", "str": "TEXT", "bytes": "BLOB"}
LOCK_PATIENCE_S = 5.0
"""How long to wait for an earlier process that still has the ledger."""


class LedgerStore:
    """Rows in SQLite, locked for this process. Every method raises StoreError with what failed and where."""

    def __init__(self, path: Path, patience_s: float = LOCK_PATIENCE_S) -> None:
        self.path = path
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
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=FULL")
        self._check_version()
        self.database.execute("BEGIN IMMEDIATE")
        for table in ROW_TYPES:
            self.database.execute(_create(table))
            self._check_columns(table)
        self.database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.database.execute("COMMIT")
        complaint = self.database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if complaint != "ok":
            raise StoreError(f"{self.path}: the ledger is damaged: {complaint}")

    def load(self) -> list[Row]:
        """Every row, table by table, in order of their keys."""
        rows: list[Row] = []
        try:
            for table in ROW_TYPES:
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

    def close(self) -> None:
        """Give the file back; what was not committed is gone."""
        self.database.close()

    def _apply(self, write: object) -> None:
        if isinstance(write, Put):
            names = _columns(type(write.row))
            values = [getattr(write.row, name) for name in names]
            holes = ", ".join("?" * len(values))
            self.database.execute(f'INSERT OR REPLACE INTO "{type(write.row).__name__}" VALUES ({holes})', values)
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

    def _check_version(self) -> None:
        version = int(self.database.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: written by a newer release (schema {version}, this one knows {SCHEMA_VERSION}): "
                "use that release, or start with another ledger"
            )

    def _check_columns(self, table: type[Row]) -> None:
        found = [str(column[1]) for column in self.database.execute(f'PRAGMA table_info("{table.__name__}")')]
        if found != _columns(table):
            raise StoreError(
                f"{self.path}: its table {table.__name__} has the columns {', '.join(found)}, expected "
                f"{', '.join(_columns(table))}: use the release that wrote it, or start with another ledger"
            )

    def _failure(self, what: str, error: Exception) -> StoreError:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            return StoreError(f"{self.path}: could not {what} the ledger: another process has it")
        fate = "; nothing of this turn was answered" if what == "write" else ""
        return StoreError(f"{self.path}: could not {what} the ledger: {error}{fate}")


def _columns(table: type[Row]) -> list[str]:
    return [field.name for field in fields(table)]


def _create(table: type[Row]) -> str:
    columns = ", ".join(f'"{field.name}" {COLUMN_TYPES[str(field.type)]} NOT NULL' for field in fields(table))
    key = ", ".join(f'"{name}"' for name in _columns(table)[: table.KEY])
    return f'CREATE TABLE IF NOT EXISTS "{table.__name__}" ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID'
