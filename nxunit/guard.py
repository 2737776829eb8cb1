"""The lock that one live process of an NX unit can hold: it proves to the hypervisor that an earlier one is gone."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")
GUARD_BYTES = 16
IPC = "ipc://"
LOCK = ".lock"
TRIES = 10


class GuardHeld(Exception):
    """Another live process serves this unit; the text says which file it has locked."""


@dataclass(frozen=True, slots=True)
class Guard:
    """A lock that is held until `release` or the end of the process. `name` is the same for whoever can hold it."""

    name: bytes
    descriptor: int

    def release(self) -> None:
        """Let the next process have it."""
        os.close(self.descriptor)


def lock_path(endpoint: str, unit: str, folder: Path | None) -> Path | None:
    """Where the lock of a unit is: beside the socket of an ipc endpoint, else in `folder`; without one there is none.

    A folder that goes with the process (of a container's own file system) gives each process a lock of its own, which
    proves nothing and is as good as none.
    """
    if endpoint.startswith(IPC):
        return Path(endpoint.removeprefix(IPC) + LOCK)
    return folder / f"{unit}.paste{LOCK}" if folder is not None else None


def take_guard(path: Path) -> Guard:
    """Lock a file.

    Its name is made of the running kernel, the file system and the file: a process elsewhere, or one that holds a file
    of that path that was removed since, has another guard. Raises GuardHeld where a live process has it, OSError where
    the file cannot be made.
    """
    for _ in range(TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                return Guard(_name(descriptor), descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise GuardHeld(f"another process serves this unit: it has locked {path}") from None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError(f"{path} is removed again and again while it is being locked")


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the locked file is still the one of this path: a lock on a removed file keeps nobody out."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _name(descriptor: int) -> bytes:
    """An inode number is not used again while somebody has the file open, which whoever holds the lock does."""
    file = os.fstat(descriptor)
    boot = BOOT_ID_PATH.read_text().strip()
    return blake2b(f"{boot} {file.st_dev} {file.st_ino}".encode(), digest_size=GUARD_BYTES).digest()
