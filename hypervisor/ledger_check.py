"""Whether a file is a ledger that this release can use, and its rows. Reads alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import fields
from pathlib import Path

from hypervisor.rows import ROW_TYPES, SCHEMA_VERSION, Row
from hypervisor.store_failure import ADVICE, foreign
from protocol.codes import ExitCode
from protocol.node import StoreError

COLUMN_TYPES = {"int": "INTEGER", "str": "TEXT", "bytes": "BLOB"}


def columns(table: type[Row]) -> list[str]:
    """The names of a table's columns, its key first."""
    return [field.name for field in fields(table)]


def checked_rows(database: sqlite3.Connection, name: Path) -> list[Row]:
    """Every row of a database that is a ledger of this release or an earlier one; `name` is what errors call it.

    Raises StoreError where it is none, or a page or a value is damaged, and what SQLite raises.
    """
    tables = _check_schema(database, name)
    complaint = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    if complaint != "ok":
        raise damaged(name, complaint)
    return [row for table in tables for row in rows_of(database, table, name)]


def rows_of(database: sqlite3.Connection, table: type[Row], name: Path) -> list[Row]:
    """A table's rows in order of their keys. Raises StoreError, and what SQLite raises."""
    _check_types(database, table, name)
    key = ", ".join(f'"{column}"' for column in columns(table)[: table.KEY])
    with closing(database.execute(f'SELECT * FROM "{table.__name__}" ORDER BY {key}')) as cursor:
        return [table(*values) for values in cursor]


def schema_of(database: sqlite3.Connection) -> int:
    """The schema's number; 0 where there is none yet."""
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def damaged(name: Path, complaint: str) -> StoreError:
    """What is in the ledger cannot be right."""
    advice = ADVICE[ExitCode.STORE_DAMAGED]
    return StoreError(f"{name}: the ledger is damaged: {complaint}: {advice}", ExitCode.STORE_DAMAGED)


def _check_schema(database: sqlite3.Connection, name: Path) -> list[type[Row]]:
    """The tables that are there. They are ours, as this release writes them; an older ledger may lack some."""
    version = schema_of(database)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{name}: written by a newer release (schema {version}, this one knows {SCHEMA_VERSION}): "
            "use that release, or start with another ledger",
            ExitCode.STORE_VERSION,
        )
    found = {str(row[0]) for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    known = {table.__name__ for table in ROW_TYPES}
    others = sorted(found if version < 1 else found - known)
    if others:
        raise foreign(name, f"it is a database with the table {others[0]} and schema {version}")
    missing = sorted(known - found)
    if version == SCHEMA_VERSION and missing:
        raise damaged(name, f"it has no table {missing[0]}")
    tables = [table for table in ROW_TYPES if table.__name__ in found]
    for table in tables:
        _check_columns(database, table, name)
    return tables


def _check_columns(database: sqlite3.Connection, table: type[Row], name: Path) -> None:
    found = [str(column[1]) for column in database.execute(f'PRAGMA table_info("{table.__name__}")')]
    if found != columns(table):
        raise StoreError(
            f"{name}: its table {table.__name__} has the columns {', '.join(found)}, expected "
            f"{', '.join(columns(table))}: use the release that wrote it, or start with another ledger",
            ExitCode.STORE_VERSION,
        )


def _check_types(database: sqlite3.Connection, table: type[Row], name: Path) -> None:
    """SQLite keeps any value in any column: one that is not of its column's type is damage."""
    wrong = " OR ".join(
        f"typeof(\"{field.name}\") <> '{COLUMN_TYPES[str(field.type)].lower()}'" for field in fields(table)
    )
    with closing(database.execute(f'SELECT * FROM "{table.__name__}" WHERE {wrong} LIMIT 1')) as cursor:
        row = cursor.fetchone()
    if row is not None:
        key = ", ".join(f"{value!r:.60}" for value in row[: table.KEY])
        raise damaged(name, f"{table.__name__} {key}: a value is not of its column's type")
