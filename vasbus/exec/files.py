"""cat and ls: the partition's files from a shell's point of view."""

from __future__ import annotations

import errno
import getopt
import os
from collections.abc import Sequence
from dataclasses import dataclass

from lpar.client import KernelFailure
from vasbus.exec.program import Files, OnPartition

FILES = "/sys/kernel/debug/vasbus/files"
"""A listing of all files of the partition: modes in octal, paths."""
USAGE_ERROR = 2


@dataclass(frozen=True, slots=True)
class Listed:
    """A file, or a folder that files are in (`mode` None)."""

    name: str
    mode: int | None

    @property
    def long(self) -> str:
        """The line of `ls -l`, without what the partition's files do not have: owners, sizes and dates."""
        if self.mode is None:
            return f"dr-xr-xr-x {self.name}"
        bits = "".join(letter if self.mode >> (8 - place) & 1 else "-" for place, letter in enumerate("rwxrwxrwx"))
        return f"-{bits} {self.name}"


def cat(place: OnPartition, words: Sequence[str]) -> int:
    """Print files one after the other; 1 where one could not be read."""
    if not words:
        place.err.write("cat: expected the path of a file, came none\n")
        return USAGE_ERROR
    code = 0
    for path in words:
        try:
            place.out.write(place.files.read(path))
        except KernelFailure as failure:
            why = errno.EISDIR if failure.errno == errno.ENOENT and folder(place.files, path) else failure.errno
            place.err.write(f"cat: {path}: {os.strerror(why or errno.EIO)}\n")
            code = 1
    return code


def ls(place: OnPartition, words: Sequence[str]) -> int:
    """List folders and files, -l with their modes; 2 where one does not exist."""
    try:
        pairs, paths = getopt.gnu_getopt(list(words), "l1")
    except getopt.GetoptError as error:
        place.err.write(f"ls: invalid option -- '{error.opt}'; there are -l and -1\n")
        return USAGE_ERROR
    long, code = ("-l", "") in pairs, 0
    for path in paths or ["/"]:
        found = folder(place.files, path) or single(place.files, path)
        if not found:
            place.err.write(f"ls: cannot access '{path}': {os.strerror(errno.ENOENT)}\n")
            code = USAGE_ERROR
        if len(paths) > 1 and found:
            place.out.write(f"{path}:\n")
        place.out.writelines(f"{listed.long if long else listed.name}\n" for listed in found)
    return code


def folder(files: Files, path: str) -> list[Listed]:
    """What is in a folder, by name; nothing where it is none."""
    prefix = path.rstrip("/") + "/"
    below: dict[str, int | None] = {}
    for file, mode in listing(files).items():
        if file.startswith(prefix):
            name, slash, _rest = file.removeprefix(prefix).partition("/")
            below[name] = None if slash else mode
    return [Listed(name, mode) for name, mode in sorted(below.items())]


def single(files: Files, path: str) -> list[Listed]:
    """The file of this path, if there is one."""
    found = listing(files)
    return [Listed(path, found[path])] if path in found else []


def listing(files: Files) -> dict[str, int]:
    """Every file's mode."""
    lines = (line.partition(" ") for line in files.read(FILES).splitlines()[1:])
    return {path: int(mode, 8) for mode, _, path in lines}
