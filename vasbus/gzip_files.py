"""What gzip and gunzip do with files: names, checks, and an output that appears only when it is whole."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SUFFIX = ".gz"
ENDINGS = {".gz": "", ".tgz": ".tar", ".taz": ".tar"}
"""What gunzip makes of a file's ending."""


class FileRefused(Exception):
    """A file that is left as it is; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The options that files care about."""

    decompress: bool
    keep: bool
    force: bool


def input_path(name: str, rules: Rules) -> Path:
    """The file that is meant: gunzip also takes a name without its `.gz`. Raises FileRefused."""
    path = Path(name)
    if rules.decompress and not path.exists() and not path.is_symlink():
        compressed = path.with_name(path.name + SUFFIX) if path.name else path
        if compressed.exists():
            return compressed
    return path


def output_path(path: Path, rules: Rules) -> Path:
    """Where the output goes. Raises FileRefused for an ending that does not fit."""
    ending = path.suffix.lower()
    if rules.decompress:
        if ending not in ENDINGS or not path.stem:
            known = ", ".join(ENDINGS)
            raise FileRefused(f"its name ends in none of {known}: use `vasbus gunzip - <{path.name}`, or -c")
        return path.with_name(path.stem + ENDINGS[ending])
    if ending in ENDINGS and not rules.force:
        raise FileRefused(f"already ends in {ending}; -f compresses it once more")
    return path.with_name(path.name + SUFFIX)


def check_input(path: Path, rules: Rules, *, replaced: bool) -> None:
    """Whether this is a file to work on; `replaced`: its output takes its place. Raises FileRefused, OSError."""
    found = path.lstat() if replaced and not rules.force else path.stat()
    if stat.S_ISLNK(found.st_mode):
        raise FileRefused("a symbolic link; -f takes the file that it names")
    if stat.S_ISDIR(found.st_mode):
        raise FileRefused("a folder; name the files in it")
    if replaced and not stat.S_ISREG(found.st_mode):
        raise FileRefused("not a regular file; use -c")
    if replaced and found.st_nlink > 1 and not rules.force and not rules.keep:
        raise FileRefused(f"has {found.st_nlink - 1} other links; -k keeps them, -f goes on all the same")


@contextmanager
def replacing(path: Path, target: Path, rules: Rules) -> Iterator[IO[bytes]]:
    """A file to write `target` to. It gets its name, mode and times when the block has ended well, else it vanishes.

    Only then is the original removed, unless it is kept. Raises FileRefused where `target` is there and not forced.
    """
    if not rules.force and os.path.lexists(target):
        raise FileRefused(f"{target} is there already; -f overwrites it")
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".vasbus", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            _take_after(path, file.fileno())
            os.fsync(file.fileno())
        _give_name(name, target, force=rules.force)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
    if not rules.keep:
        path.unlink()


def _take_after(path: Path, descriptor: int) -> None:
    """Owner where that is allowed, mode and times of the original."""
    original = path.stat()
    mode = stat.S_IMODE(original.st_mode)
    try:
        os.fchown(descriptor, original.st_uid, original.st_gid)
    except PermissionError:
        # Another owner's file: set-id bits would then give somebody else's rights away.
        mode &= 0o777
    os.fchmod(descriptor, mode)
    os.utime(descriptor, ns=(original.st_atime_ns, original.st_mtime_ns))


def _give_name(name: str, target: Path, *, force: bool) -> None:
    """Raises FileRefused where somebody else has made a file of that name meanwhile."""
    if force:
        os.replace(name, target)
        return
    try:
        os.link(name, target)
    except FileExistsError:
        raise FileRefused(f"{target} appeared meanwhile; -f overwrites it") from None
    except OSError:
        # A file system without hard links.
        if os.path.lexists(target):
            raise FileRefused(f"{target} appeared meanwhile; -f overwrites it") from None
        os.rename(name, target)
