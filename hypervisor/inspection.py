"""Reads a ledger without writing to it, for `vasbus fsck`.

A copy is what is opened (ledger_files.py). While it is made no hypervisor starts with the ledger, and where one has it
already it is left alone.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hypervisor.finding import Finding, Weight, remark
from hypervisor.fsck import check
from hypervisor.fsck_system import compare
from hypervisor.ledger_check import checked_rows, schema_of
from hypervisor.ledger_files import LOG, beside, copy, lock
from hypervisor.log_tail import dropped_bytes
from hypervisor.rows import ROW_TYPES, Row
from hypervisor.store_failure import failure, foreign
from protocol.codes import ExitCode
from protocol.node import StoreError
from protocol.system import SystemSettings

COMPLAINTS_MOST = 20


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a ledger has in it. Sizes are bytes; `rows` counts them by table. `dropped_bytes`: the end of its log that
    no commit had finished, which the hypervisor drops as well.
    """

    path: Path
    schema: int
    file_bytes: int
    log_bytes: int
    dropped_bytes: int
    rows: dict[str, int]
    findings: list[Finding]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever stored: a hypervisor that starts with it makes a ledger of it."""
        return self.schema == 0

    @property
    def remarks(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.weight is Weight.REMARK]

    @property
    def faults(self) -> list[Finding]:
        """The findings that are none of a sound ledger."""
        return [finding for finding in self.findings if finding.weight is not Weight.REMARK]

    @property
    def is_senseless(self) -> bool:
        """Whether the hypervisor would not start with it."""
        return any(finding.weight is Weight.SENSELESS for finding in self.findings)


def inspect(path: Path, system: SystemSettings | None = None) -> Inspection:
    """Check a ledger's pages, tables, rows and their connections; with a system file, against that.

    The file is not written. Raises StoreError where it cannot be read, is no ledger, or SQLite finds it damaged.
    """
    try:
        if not path.exists():
            raise foreign(path, "there is no such file")
        if not path.is_file():
            raise foreign(path, "it is no file")
    except OSError as error:
        raise StoreError(f"{path}: could not read the ledger: {error.strerror}") from None
    with tempfile.TemporaryDirectory(prefix="vasbus-fsck-") as folder:
        place = Path(folder) / "ledger"
        try:
            with lock(path, alone=False) as file:
                sizes = copy(file, path, place)
        except BlockingIOError:
            text = f"{path}: another process has the ledger: stop the hypervisor first (`vasbus down --keep-ledger`)"
            raise StoreError(text, ExitCode.STORE_LOCKED) from None
        except OSError as error:
            raise StoreError(f"{path}: could not read the ledger: {error.strerror}") from error
        schema, rows, dropped = _read(place, path)
    found = check(rows)
    if dropped:
        text = f"its last {dropped} of {sizes[1]} bytes are no whole commit, and are dropped"
        found.append(remark("write-ahead log", text))
    if system is not None and not any(finding.weight is Weight.SENSELESS for finding in found):
        found += compare(system, rows)
    counts = Counter(type(row).__name__ for row in rows)
    by_table = {table.__name__: counts[table.__name__] for table in ROW_TYPES}
    return Inspection(path, schema, sizes[0], sizes[1], dropped, by_table, found)


def _read(place: Path, path: Path) -> tuple[int, list[Row], int]:
    """The schema and every row of the copy of `path`, and the bytes of its log that are dropped. Raises StoreError."""
    left = beside(place, LOG)
    log = left.read_bytes() if left.exists() else b""
    try:
        with closing(sqlite3.connect(place)) as database:
            schema, rows = schema_of(database), checked_rows(database, path)
            (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
            _, frames, _ = database.execute("PRAGMA wal_checkpoint").fetchone()
            complaints = [str(row[0]) for row in database.execute(f"PRAGMA integrity_check({COMPLAINTS_MOST})")]
    except sqlite3.Error as error:
        raise failure(path, place, "read", error) from error
    if complaints != ["ok"]:
        raise StoreError(f"{path}: the ledger is damaged: {'; '.join(complaints)}", ExitCode.STORE_DAMAGED)
    return schema, rows, dropped_bytes(log, max(0, frames), page_bytes)
