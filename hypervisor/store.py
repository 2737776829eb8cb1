"""The ledger on disk: SQLite in WAL mode with synchronous=FULL. One commit per turn of the node loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hypervisor.rows import ROW_TYPES, SCHEMA_VERSION, AnswerRow, Drop, DropAnswers, Put, Row
from protocol.node import StoreError

COLUMN_TYPES = {"int": "INTEGER", "str": "TEXT", "bytes": "BLOB"}


class LedgerStore:
    """Rows in SQLite. Every method raises StoreError with what failed and where the file is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._check_version()
            for table in ROW_TYPES:
                self._database.execute(_create(table))
        except sqlite3.Error as error:
            raise self._failure("open", error) from error

    def load(self) -> list[Row]:
        """Every row, table by table, in order of their keys."""
        rows: list[Row] = []
        try:
            for table in ROW_TYPES:
                key = ", ".join(f'"{name}"' for name in _columns(table)[: table.KEY])
                cursor = self._database.execute(f'SELECT * FROM "{table.__name__}" ORDER BY {key}')
                rows += [table(*values) for values in cursor]
        except sqlite3.Error as error:
            raise self._failure("read", error) from error
        return rows

    def commit(self, writes: Sequence[object]) -> None:
        """All of a turn's writes in one transaction, on the disk when this returns."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            for write in writes:
                self._apply(write)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failure("write", error) from error

    def close(self) -> None:
        self._database.close()

    def _apply(self, write: object) -> None:
        if isinstance(write, Put):
            names = _columns(type(write.row))
            values = [getattr(write.row, name) for name in names]
            holes = ", ".join("?" * len(values))
            self._database.execute(f'INSERT OR REPLACE INTO "{type(write.row).__name__}" VALUES ({holes})', values)
        elif isinstance(write, Drop):
            where = " AND ".join(f'"{name}" = ?' for name in _columns(write.table)[: write.table.KEY])
            self._database.execute(f'DELETE FROM "{write.table.__name__}" WHERE {where}', write.key)
        elif isinstance(write, DropAnswers):
            self._database.execute(
                f'DELETE FROM "{AnswerRow.__name__}" WHERE "link" = ? AND "name" = ? AND "number" < ?',
                (write.link, write.name, write.below),
            )
        else:
            raise TypeError(f"{type(write).__name__} is no write of the ledger")

    def _check_version(self) -> None:
        version = int(self._database.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: written by a newer release (schema {version}, this one knows {SCHEMA_VERSION}): "
                "use that release, or start with another ledger"
            )
        self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _failure(self, what: str, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self.path}: could not {what} the ledger: {error}; nothing of this turn was answered")


def _columns(table: type[Row]) -> list[str]:
    return [field.name for field in fields(table)]


def _create(table: type[Row]) -> str:
    columns = ", ".join(f'"{field.name}" {COLUMN_TYPES[str(field.type)]} NOT NULL' for field in fields(table))
    key = ", ".join(f'"{name}"' for name in _columns(table)[: table.KEY])
    return f'CREATE TABLE IF NOT EXISTS "{table.__name__}" ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID'
