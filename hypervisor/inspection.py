"""Reads a ledger without writing to it, for `vasbus fsck`.

SQLite cannot read a write-ahead log without writing beside it, so that a copy is what is opened. Meanwhile the file is
locked as a reader of SQLite locks it (fileformat2.html, "The Lock-Byte Page"): no hypervisor starts with it, and where
one has it already it is left alone.
"""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypervisor.finding import Finding, Weight
from hypervisor.fsck import check
from hypervisor.fsck_system import compare
from hypervisor.rows import ROW_TYPES, Row
from hypervisor.store import LedgerStore
from hypervisor.store_failure import failure, foreign
from protocol.codes import ExitCode
from protocol.node import StoreError
from protocol.system import SystemSettings

SHARED_FIRST, SHARED_BYTES = 0x4000_0002, 510
"""Readers lock these bytes; a hypervisor has them all for itself."""
COMPLAINTS_MOST = 20
SUFFIXES = ("", "-wal", "-journal")
"""The ledger, its write-ahead log, and what undoes the first write of a fresh one."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a ledger has in it. Sizes are bytes; `rows` counts them by table."""

    path: Path
    schema: int
    file_bytes: int
    log_bytes: int
    rows: dict[str, int]
    findings: list[Finding]

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
    if not path.exists():
        raise StoreError(f"{path}: there is no such file", ExitCode.STORE)
    if not path.is_file():
        raise foreign(path, "it is no file")
    with tempfile.TemporaryDirectory(prefix="vasbus-fsck-") as folder:
        copy = Path(folder) / "ledger"
        try:
            with _locked(path):
                sizes = [_copy(path, copy, suffix) for suffix in SUFFIXES]
        except OSError as error:
            raise StoreError(f"{path}: could not read the ledger: {error.strerror}") from error
        schema, rows = _read(copy, path)
    found = check(rows)
    if system is not None and not any(finding.weight is Weight.SENSELESS for finding in found):
        found += compare(system, rows)
    counts = Counter(type(row).__name__ for row in rows)
    by_table = {table.__name__: counts[table.__name__] for table in ROW_TYPES}
    return Inspection(path, schema, sizes[0], sizes[1], by_table, found)


def _copy(path: Path, copy: Path, suffix: str) -> int:
    """Copy one file of the ledger; its bytes, 0 where it is not there."""
    source = path.with_name(path.name + suffix)
    if not source.exists():
        return 0
    shutil.copyfile(source, copy.with_name(copy.name + suffix))
    return source.stat().st_size


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep hypervisors from the file. Raises StoreError where one has it."""
    with path.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, SHARED_BYTES, SHARED_FIRST)
        except BlockingIOError:
            text = f"{path}: another process has the ledger: stop the hypervisor first (`vasbus down --keep-ledger`)"
            raise StoreError(text, ExitCode.STORE_LOCKED) from None
        yield


def _read(copy: Path, path: Path) -> tuple[int, list[Row]]:
    """The schema and every row of the copy of `path`. Raises StoreError."""
    schema = _schema(copy, path)
    with closing(LedgerStore(copy, name=path)) as store:
        complaints = store.complaints(COMPLAINTS_MOST)
        if complaints:
            raise StoreError(f"{path}: the ledger is damaged: {'; '.join(complaints)}", ExitCode.STORE_DAMAGED)
        return schema, store.load()


def _schema(copy: Path, path: Path) -> int:
    try:
        with closing(sqlite3.connect(copy)) as database:
            return int(database.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise failure(path, copy, "read", error) from error
