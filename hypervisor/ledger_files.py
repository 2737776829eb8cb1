"""The files of a ledger: its lock, and a copy to look at, because SQLite writes where it reads.

It cannot read a write-ahead log without moving it into the ledger when it is closed. The lock is the one that readers
and writers of SQLite use (fileformat2.html, "The Lock-Byte Page"). It belongs to the process and is lost as soon as any
descriptor of the file is closed, so that the ledger is copied through the descriptor that holds it.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from hypervisor.store_failure import foreign

SHARED_FIRST, SHARED_BYTES = 0x4000_0002, 510
"""Readers lock these bytes; a writer that wants the ledger for itself, as a hypervisor, has all of them alone."""
LOG, UNDO = "-wal", "-journal"
SUFFIXES = ("", LOG, UNDO)
"""The ledger, its write-ahead log, and what undoes the first write of a fresh one."""
LOCK_POLL_S = 0.02


def lock(path: Path, *, alone: bool, patience_s: float = 0.0) -> BinaryIO:
    """The open ledger, locked until this is closed: `alone` or beside other readers.

    Raises BlockingIOError where another process keeps its lock for so long, and what `open` raises.
    """
    deadline_s = time.monotonic() + patience_s
    file = path.open("r+b" if alone else "rb")
    try:
        while True:
            try:
                kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
                fcntl.lockf(file, kind | fcntl.LOCK_NB, SHARED_BYTES, SHARED_FIRST)
                return file
            except (BlockingIOError, PermissionError):
                if time.monotonic() >= deadline_s:
                    raise BlockingIOError(f"{path} is locked") from None
            time.sleep(LOCK_POLL_S)
    except BaseException:
        file.close()
        raise


def beside(path: Path, suffix: str) -> Path:
    """The file that belongs to a ledger."""
    return path.with_name(path.name + suffix)


def logs(path: Path) -> Iterator[Path]:
    """What an earlier process left beside the ledger with something in it. Raises StoreError where that is no file."""
    for suffix in (LOG, UNDO):
        log = beside(path, suffix)
        if not log.exists():
            continue
        if not log.is_file():
            raise foreign(path, f"{log.name} beside it is no file")
        if log.stat().st_size:
            yield log


def copy(file: BinaryIO, path: Path, place: Path) -> list[int]:
    """Copy a locked ledger and what belongs to it to `place`; the bytes of each, in the order of SUFFIXES.

    Raises OSError, and StoreError where something beside it is no file.
    """
    found = list(logs(path))
    sizes = []
    file.seek(0)
    for suffix in SUFFIXES:
        source, target = beside(path, suffix), beside(place, suffix)
        if not suffix:
            with target.open("wb") as made:
                shutil.copyfileobj(file, made)
        elif source in found:
            shutil.copyfile(source, target)
        sizes.append(target.stat().st_size if target.exists() else 0)
    return sizes


@contextmanager
def copied(file: BinaryIO, path: Path) -> Iterator[Path]:
    """A copy of a locked ledger and what belongs to it, gone afterwards: where temporary files are, else beside it.

    Raises OSError, why there is none beside it either, and StoreError as `copy`.
    """
    with ExitStack() as kept:
        try:
            place = _copied_in(None, kept, file, path)
        except OSError:
            place = _copied_in(path.parent, kept, file, path)
        yield place


def _copied_in(folder: Path | None, kept: ExitStack, file: BinaryIO, path: Path) -> Path:
    with ExitStack() as made:
        temporary = tempfile.TemporaryDirectory(prefix=".vasbus-ledger-", dir=folder, ignore_cleanup_errors=True)
        place = Path(made.enter_context(temporary)) / "ledger"
        copy(file, path, place)
        kept.push(made.pop_all())
    return place
