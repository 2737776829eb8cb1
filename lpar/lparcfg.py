"""/proc/powerpc/lparcfg: the partition's processor entitlement, shown and set. Source: domain.md 5.6."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lpar.failure import os_failure, raw_failure
from lpar.hcall import HcallReturn
from lpar.mutex import Mutex
from lpar.sysfs import File, FileTree, Stored
from protocol.codes import HcallCode, KernelReason
from protocol.device_messages import OsFailure
from protocol.system import LparSettings, ProcessorMode

LPARCFG_PATHS = ("/proc/powerpc/lparcfg", "/proc/ppc64/lparcfg")
"""The file and its older name, which drmgr still uses."""
LPARCFG_MODE = 0o644
ENTITLED_CAPACITY = "partition_entitled_capacity"
CAPACITY_WEIGHT = "capacity_weight"
PARAMETERS = (ENTITLED_CAPACITY, CAPACITY_WEIGHT)
WRITE_LIMIT_BYTES = 64
"""The driver's buffer; a longer write is EINVAL."""

Writer = Callable[[str, int, Stored], None]


@dataclass(slots=True)
class Lparcfg:
    """What the file shows. `hundredths` is the entitled capacity of a shared partition, as the hypervisor tells it.

    Linux asks the hypervisor at each read. Here the number is kept, so all changes take turns and the partition's own
    are counted in `writes`: an answer that comes late must not bring an old number back.
    """

    shared: bool
    hundredths: int
    turns: Mutex = field(default_factory=Mutex)
    writes: int = 0

    @classmethod
    def of(cls, settings: LparSettings) -> Lparcfg:
        return cls(settings.mode is ProcessorMode.SHARED, settings.hundredths)

    def written(self, hundredths: int) -> None:
        """A write has set the capacity."""
        self.hundredths = hundredths
        self.writes += 1

    def show(self) -> str:
        """One `name=value` per line after the version."""
        lines = ["lparcfg 1.9", f"shared_processor_mode={int(self.shared)}"]
        if self.shared:
            lines.append(f"{ENTITLED_CAPACITY}={self.hundredths}")
        return "\n".join(lines) + "\n"

    def add_to(self, files: FileTree, write: Writer) -> None:
        """Both names of the file."""
        for path in LPARCFG_PATHS:
            files.add(path, File(LPARCFG_MODE, self.show, write))


@dataclass(frozen=True, slots=True)
class Parameter:
    """A system parameter and its new value."""

    name: str
    value: int


def parse(text: str) -> Parameter | OsFailure:
    """What a write asks for, by lparcfg_write's rules; EINVAL where it asks for nothing.

    The last byte is taken to be the newline of `echo` and overwritten, whatever it is: a write without newline loses
    its last digit, as in Linux. After the digits anything may follow.
    """
    data = text.encode()
    if len(data) > WRITE_LIMIT_BYTES:
        return refused(f"{len(data)} bytes; {WRITE_LIMIT_BYTES} at most")
    name, equals, value = data[:-1].partition(b"\0")[0].decode(errors="replace").partition("=")
    if not equals:
        return refused(f"{text!r} is not `name=value` and a newline")
    if name not in PARAMETERS:
        return refused(f"{name!r} is not one of {', '.join(PARAMETERS)}")
    number = simple_strtoul(value)
    if number is None:
        return refused(f"{value!r} does not begin with a digit")
    return Parameter(name, number)


def refused(detail: str) -> OsFailure:
    """EINVAL."""
    return os_failure(KernelReason.BAD_NUMBER, detail)


def simple_strtoul(text: str) -> int | None:
    """The decimal number that a text begins with, modulo 2^64; None where it begins with no digit."""
    digits = 0
    while digits < len(text) and text[digits] in "0123456789":
        digits += 1
    return int(text[:digits]) % 2**64 if digits else None


REASONS = {
    HcallCode.H_BUSY: KernelReason.SET_PPP_BUSY,
    HcallCode.H_HARDWARE: KernelReason.HCALL_FAILED,
    HcallCode.H_PARAMETER: KernelReason.SET_PPP_PARAMETER,
    HcallCode.H_RESOURCE: KernelReason.SET_PPP_RESOURCE,
}
"""Three codes have an errno of their own. H_RESOURCE, -16, comes back raw, and 16 is EBUSY."""


def failure_of(answer: HcallReturn) -> OsFailure:
    """How a write ends whose H_SET_PPP failed.

    Codes without an errno of their own come back raw. A positive one would look like a count of bytes written; here
    that is EIO.
    """
    if answer.code is None or answer.code in REASONS:
        reason = KernelReason.HCALL_FAILED if answer.code is None else REASONS[answer.code]
        return os_failure(reason, answer.words, answer.code)
    return raw_failure(answer.code, answer.words)
