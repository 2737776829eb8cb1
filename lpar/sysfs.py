"""The partition's files: paths, modes and formats of sysfs, and what writing does. Source: domain.md 4."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lpar.driver import VasDriver
from lpar.failure import os_failure
from lpar.pool import Pool
from lpar.reconfigure import Reconfigure
from lpar.walk import Reconfiguration
from protocol.codes import CREDIT_MAX, CreditType, KernelReason
from protocol.device_messages import OsFailure
from protocol.hcall_messages import NxFeatureCapabilities

GZIP_FOLDER = "/sys/devices/virtual/misc/vas/vas0/gzip"
CAPABILITIES_FOLDER = {
    CreditType.QOS: f"{GZIP_FOLDER}/qos_capabilities",
    CreditType.DEFAULT: f"{GZIP_FOLDER}/default_capabilities",
}
UPDATE_TOTAL_CREDITS = f"{CAPABILITIES_FOLDER[CreditType.QOS]}/update_total_credits"
NX_FOLDER = "/sys/devices/vio/ibm,compression-v1/nx_gzip_caps"

READ_ONLY = 0o444
WRITE_ONLY = 0o200
READABLE = 0o444
WRITABLE = 0o222

Stored = Callable[[Reconfiguration | OsFailure, int], None]
"""Called when a write has taken effect, with what it did, or with why it failed."""


@dataclass(frozen=True, slots=True)
class File:
    """One file: its mode, what reading gives and what writing does."""

    mode: int
    show: Callable[[], str] | None = None
    store: Callable[[str, int, Stored], None] | None = None


class FileTree:
    """Files by absolute path. Nothing else exists, so a path with `..` or outside the tree is no file."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}

    def add(self, path: str, file: File) -> None:
        self.files[path] = file

    def read(self, path: str) -> str | OsFailure:
        """The whole text of a file."""
        file = self.files.get(path)
        if file is None:
            return os_failure(KernelReason.NO_FILE, path)
        if file.show is None or not file.mode & READABLE:
            return os_failure(KernelReason.NOT_READABLE, f"mode {file.mode:04o}")
        return file.show()

    def write(self, path: str, text: str, now_us: int, stored: Stored) -> None:
        """Write a file in one call; `stored` is called once, now or later."""
        file = self.files.get(path)
        if file is None:
            stored(os_failure(KernelReason.NO_FILE, path), now_us)
        elif file.store is None or not file.mode & WRITABLE:
            stored(os_failure(KernelReason.NOT_WRITABLE, f"mode {file.mode:04o}"), now_us)
        else:
            file.store(text, now_us, stored)


def add_vas_capabilities(files: FileTree, driver: VasDriver, credit_type: CreditType, *, dynamic_qos: bool) -> None:
    """The folder of a credit type, which exists only where its feature bit is set (sysfs_add_vas_caps).

    A kernel from before update_total_credits has no dynamic QoS: its QoS total is what it read at its start.
    """
    folder, pool = CAPABILITIES_FOLDER[credit_type], driver.pools[credit_type]
    files.add(f"{folder}/nr_total_credits", File(READ_ONLY, lambda: f"{pool.total}\n"))
    files.add(f"{folder}/nr_used_credits", File(READ_ONLY, lambda: f"{pool.used}\n"))
    if credit_type is CreditType.QOS and dynamic_qos:
        files.add(UPDATE_TOTAL_CREDITS, File(WRITE_ONLY, store=TotalCredits(driver, pool)))


def add_nx_capabilities(files: FileTree, limits: NxFeatureCapabilities) -> None:
    """The request limits in bytes; the folder is missing where the query failed."""
    for name in ("req_max_processed_len", "min_compress_len", "min_decompress_len"):
        files.add(f"{NX_FOLDER}/{name}", File(READ_ONLY, partial("{}\n".format, getattr(limits, name))))


class TotalCredits:
    """update_total_credits: the number written is the new total; the hypervisor is not asked.

    The HMC tells the operating system before it tells the hypervisor, so only the number written is up to date.
    """

    def __init__(self, driver: VasDriver, pool: Pool) -> None:
        self.driver = driver
        self.pool = pool

    def __call__(self, text: str, now_us: int, stored: Stored) -> None:
        """Any error, of parsing or of the reconfiguration, is EINVAL."""
        total = kstrtou16(text)
        if total is None:
            stored(os_failure(KernelReason.BAD_NUMBER, f"{text[:40]!r} is no number from 0 to {CREDIT_MAX}"), now_us)
        else:
            Reconfigure(self.driver, self.pool, total, stored).start(now_us)


DIGITS_READ = 32
"""Enough to see that a number has more than 64 bits in any base."""
DIGITS = {8: "01234567", 10: "0123456789", 16: "0123456789abcdef"}


def kstrtou16(text: str) -> int | None:
    """A C string to a number of 16 bits with base 0; None where the kernel's kstrtou16 reports an error."""
    number = unsigned_number(text)
    return number if number is not None and number <= CREDIT_MAX else None


def unsigned_number(text: str) -> int | None:
    """A C string to a number with base 0, as the kernel's kstrtou functions read it; None where it is no number.

    One leading plus, then 0x for hexadecimal or 0 for octal, and at most one newline at the end. Spaces are errors.
    What has more than 64 bits comes back as some number above them.
    """
    digits = text.partition("\0")[0].removesuffix("\n").removeprefix("+").lower()
    base = 10
    if digits.startswith("0x") and len(digits) > 2:
        base, digits = 16, digits[2:]
    elif digits.startswith("0"):
        base = 8
    if not digits or any(digit not in DIGITS[base] for digit in digits):
        return None
    return int(digits.lstrip("0")[:DIGITS_READ] or "0", base)
