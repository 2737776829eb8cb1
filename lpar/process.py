"""Client processes as the kernel sees them: descriptors and mappings, and the files that both refer to."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from lpar.window import Mapping, Window
from protocol.session import Session

FIRST_DESCRIPTOR = 3
"""0 to 2 are the standard streams of any process."""


@dataclass(slots=True, eq=False)
class DeviceFile:
    """An open file of /dev/crypto/nx-gzip. Descriptor, mappings and a running ioctl each hold a reference."""

    references: int = 1
    opening: bool = False
    window: Window | None = None


@dataclass(slots=True, eq=False)
class Process:
    """One client process.

    `dead` says that its partition went down under it: its descriptors answer ENODEV. `killed`: a signal has ended it.
    `csb_updates` are the status blocks that it has not taken yet.
    """

    session: Session
    pid: int
    descriptors: dict[int, DeviceFile] = field(default_factory=dict)
    mappings: dict[int, tuple[DeviceFile, Mapping]] = field(default_factory=dict)
    dead: bool = False
    killed: bool = False
    csb_updates: int = 0
    _freed: list[int] = field(default_factory=list)
    _next_descriptor: int = FIRST_DESCRIPTOR
    _last_mapping: int = 0

    def install(self, file: DeviceFile) -> int:
        """Give a file the lowest free descriptor."""
        if self._freed:
            descriptor = heapq.heappop(self._freed)
        else:
            descriptor = self._next_descriptor
            self._next_descriptor += 1
        self.descriptors[descriptor] = file
        return descriptor

    def uninstall(self, descriptor: int) -> DeviceFile | None:
        """Free a descriptor; the file it named, or None where it named none."""
        file = self.descriptors.pop(descriptor, None)
        if file is None:
            return None
        heapq.heappush(self._freed, descriptor)
        if file.window is not None:
            file.window.descriptor = None
        return file

    def map(self, file: DeviceFile) -> Mapping:
        """Make a mapping of a file, which holds a reference to it. Numbers are never used again."""
        self._last_mapping += 1
        mapping = Mapping(self._last_mapping)
        self.mappings[mapping.number] = (file, mapping)
        file.references += 1
        return mapping

    def tear_down(self) -> Iterator[DeviceFile]:
        """The process ends: give up mappings, then descriptors; yields each file once per reference given up."""
        for number in list(self.mappings):
            yield munmap(self, number)
        for descriptor in sorted(self.descriptors):
            file = self.uninstall(descriptor)
            assert file is not None, "the descriptor was listed"
            yield file


def munmap(process: Process, number: int) -> DeviceFile:
    """Remove a mapping; the window forgets it, if it is the one it remembers (vas_mmap_close). Raises KeyError."""
    file, mapping = process.mappings.pop(number)
    if file.window is not None and file.window.mapping is mapping:
        file.window.mapping = None
    return file
