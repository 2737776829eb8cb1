"""/proc/powerpc/lparcfg: the partition's processor entitlement. Source: domain.md 5.6."""

from __future__ import annotations

from dataclasses import dataclass

from lpar.sysfs import READ_ONLY, File, FileTree
from protocol.system import LparSettings, ProcessorMode

LPARCFG_PATHS = ("/proc/powerpc/lparcfg", "/proc/ppc64/lparcfg")
"""The file and its older name, which drmgr still uses."""


@dataclass(slots=True)
class Lparcfg:
    """What the file shows. `hundredths` is the entitled capacity of a shared partition, as the hypervisor tells it."""

    shared: bool
    hundredths: int

    @classmethod
    def of(cls, settings: LparSettings) -> Lparcfg:
        return cls(settings.mode is ProcessorMode.SHARED, settings.hundredths)

    def show(self) -> str:
        """One `name=value` per line after the version."""
        lines = ["lparcfg 1.9", f"shared_processor_mode={int(self.shared)}"]
        if self.shared:
            lines.append(f"partition_entitled_capacity={self.hundredths}")
        return "\n".join(lines) + "\n"

    def add_to(self, files: FileTree) -> None:
        """Read-only: only the partition's own drmgr changes the entitlement, when the hypervisor says so."""
        for path in LPARCFG_PATHS:
            files.add(path, File(READ_ONLY, self.show))
