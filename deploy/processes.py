"""The processes of a cluster, found by their command lines: no pid file can be stale."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RUNTIME_OPTION = "--runtime"
HURRY_S = 0.1
"""How often a wait for the end of processes looks whether there is a hurry."""


@dataclass(frozen=True, slots=True)
class ClusterProcess:
    """A running process of the cluster: `hypervisor`, a partition or an NX unit by its name."""

    pid: int
    role: str
    name: str


def find_processes(runtime_folder: Path) -> list[ClusterProcess]:
    """Every live process that was started with this runtime folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        process = _identify(int(entry.name), str(runtime_folder))
        if process is not None:
            found.append(process)
    return sorted(found, key=lambda process: process.pid)


def _identify(pid: int, runtime_folder: str) -> ClusterProcess | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None
    if state == "Z" or RUNTIME_OPTION not in words or "serve" not in words:
        return None
    if words[words.index(RUNTIME_OPTION) + 1 :][:1] != [runtime_folder]:
        return None
    role, name = words[words.index("serve") + 1], words[words.index("serve") + 2]
    return ClusterProcess(pid, role, role if role == "hypervisor" else name)


def stop_processes(
    processes: list[ClusterProcess], grace_s: float, hurry: Callable[[], bool] = lambda: False
) -> list[ClusterProcess]:
    """SIGTERM, then SIGKILL for what is left after `grace_s`, or at once when `hurry` says so.

    Returns those that had to be killed.
    """
    handles = {process: handle for process in processes if (handle := _open(process.pid)) is not None}
    try:
        for handle in handles.values():
            _signal(handle, signal.SIGCONT)
            _signal(handle, signal.SIGTERM)
        left = _wait(handles, time.monotonic() + grace_s, hurry)
        for handle in left.values():
            _signal(handle, signal.SIGKILL)
        _wait(left, time.monotonic() + grace_s)
        return list(left)
    finally:
        for handle in handles.values():
            os.close(handle)


def _open(pid: int) -> int | None:
    """A handle that means this very process, also after its pid is used again."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _signal(handle: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return


def _wait(
    handles: dict[ClusterProcess, int], deadline: float, hurry: Callable[[], bool] = lambda: False
) -> dict[ClusterProcess, int]:
    """Wait for ends until the deadline, or until there is a hurry; what has not ended."""
    left = dict(handles)
    poller = select.poll()
    for handle in left.values():
        poller.register(handle, select.POLLIN)
    while left and not hurry() and (wait_s := deadline - time.monotonic()) > 0:
        for handle, _ in poller.poll(min(wait_s, HURRY_S) * 1000):
            poller.unregister(handle)
            left = {process: other for process, other in left.items() if other != handle}
    return left
