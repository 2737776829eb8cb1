"""Mapping a window's paste page: coproc_mmap, its checks in their order. Source: domain.md 3."""

from __future__ import annotations

from lpar.failure import os_failure
from lpar.process import DeviceFile, Process
from lpar.window import Mapping
from protocol.codes import KernelReason
from protocol.device_messages import Mmap, OsFailure
from protocol.message import PasteAddress

PAGE_BYTES = 4096


def mmap_failure(file: DeviceFile, request: Mmap) -> OsFailure | None:
    """Why the mapping cannot be made, if it cannot: length, offset, window and its state, in the kernel's order."""
    if not 0 < request.length_bytes <= PAGE_BYTES:
        return os_failure(KernelReason.LENGTH, f"{request.length_bytes} bytes, the page has {PAGE_BYTES}")
    if request.offset_bytes != 0:
        return os_failure(KernelReason.OFFSET, f"offset {request.offset_bytes}")
    if file.window is None:
        return os_failure(KernelReason.NO_WINDOW)
    if not file.window.is_active:
        return os_failure(KernelReason.INACTIVE)
    return None


def coproc_mmap(process: Process, file: DeviceFile, request: Mmap) -> tuple[Mapping, PasteAddress] | OsFailure:
    """Map the paste page. A second mapping replaces the first in the window's memory: faults on that are SIGBUS."""
    failure = mmap_failure(file, request)
    if failure is not None:
        return failure
    window = file.window
    assert window is not None, "the check has seen to it"
    if window.paste_address is None:
        return os_failure(KernelReason.NO_WINDOW, "the window has no paste address")
    mapping = process.map(file)
    window.mapping = mapping
    return mapping, window.paste_address
