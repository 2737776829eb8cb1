"""What SQLite's errors mean for the ledger: an exit code, and a line that says what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from protocol.codes import ExitCode
from protocol.node import StoreError

PRIMARY = 0xFF
"""The part of SQLite's extended result codes that says what kind of failure it is."""
CODES = {
    sqlite3.SQLITE_FULL: ExitCode.STORE_FULL,
    sqlite3.SQLITE_READONLY: ExitCode.STORE_READ_ONLY,
    sqlite3.SQLITE_BUSY: ExitCode.STORE_LOCKED,
    sqlite3.SQLITE_LOCKED: ExitCode.STORE_LOCKED,
    sqlite3.SQLITE_CORRUPT: ExitCode.STORE_DAMAGED,
    sqlite3.SQLITE_NOTADB: ExitCode.STORE_FOREIGN,
}
ADVICE = {
    ExitCode.STORE_FULL: "make room and start again",
    ExitCode.STORE_READ_ONLY: "let this user write the file and its folder, or start with another ledger",
    ExitCode.STORE_LOCKED: "stop the other one, or start with another ledger",
    ExitCode.STORE_DAMAGED: "start with an earlier copy of it, or with another ledger",
    ExitCode.STORE_FOREIGN: "name the ledger's file (a hypervisor also takes one that does not exist yet)",
}
NO_COPY = {
    errno.ENOSPC: ExitCode.STORE_FULL,
    errno.EDQUOT: ExitCode.STORE_FULL,
    errno.EFBIG: ExitCode.STORE_FULL,
    errno.EACCES: ExitCode.STORE_READ_ONLY,
    errno.EPERM: ExitCode.STORE_READ_ONLY,
    errno.EROFS: ExitCode.STORE_READ_ONLY,
}
"""Why there is no copy of a ledger, by what the system says of the place beside it."""
NO_UTF8 = "Could not decode to UTF-8"
"""How the sqlite3 module says that a text is none; such an error has no code."""


def failure(name: Path, path: Path, what: str, error: Exception, known: ExitCode | None = None) -> StoreError:
    """What `error` means that came while the ledger at `path` was to be opened, read, checked or written.

    The text calls the ledger `name`. `known`: the code, where it is not SQLite that says it.
    """
    number = getattr(error, "sqlite_errorcode", None)
    code = known or (ExitCode.STORE if number is None else CODES.get(number & PRIMARY, ExitCode.STORE))
    if number is None and str(error).startswith(NO_UTF8):
        code = ExitCode.STORE_DAMAGED
    if code is ExitCode.STORE and what == "open" and path.exists() and not _may_write(path):
        code = ExitCode.STORE_READ_ONLY
    why = "another process has it" if code is ExitCode.STORE_LOCKED else str(error)
    fate = "; nothing of this turn was answered" if what == "write" else ""
    advice = f": {ADVICE[code]}" if code in ADVICE else ""
    return StoreError(f"{name}: could not {what} the ledger: {why}{fate}{advice}", code)


def no_copy(path: Path, error: OSError) -> StoreError:
    """A ledger that was left with a log cannot be checked: without a copy that would write to it."""
    code = NO_COPY.get(error.errno or 0, ExitCode.STORE)
    advice = f": {ADVICE[code]}" if code in ADVICE else ""
    where = "neither where temporary files are (TMPDIR) nor beside it"
    text = f"{path}: could not open the ledger: its log can be checked in a copy only, which is possible {where}"
    return StoreError(f"{text}: {error.strerror or error}{advice}", code)


def foreign(name: Path, why: str) -> StoreError:
    """What is there is not a ledger."""
    code = ExitCode.STORE_FOREIGN
    return StoreError(f"{name}: could not open the ledger: {why}: {ADVICE[code]}", code)


def _may_write(path: Path) -> bool:
    """Whether this user may write the file and its folder, and the file system lets anybody."""
    effective = os.access in os.supports_effective_ids
    return all(os.access(place, os.W_OK, effective_ids=effective) for place in (path, path.parent))
