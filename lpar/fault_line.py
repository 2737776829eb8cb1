"""The fault interrupt of each window in the hypervisor: what was told, what was fetched. Source: domain.md 5.8.

The line exists from the return of H_ALLOCATE_VAS_WINDOW to that of a successful H_DEALLOCATE_VAS_WINDOW, whatever the
kernel's lists say meanwhile: the window may be half open, suspended, in a walk or being closed. A window that is
reopened has a new id and with it a new line. One whose deallocation failed keeps its line, because the hypervisor
still holds it: so there are at most as many lines as the hypervisor has granted windows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lpar.window import TaskReference, Window

TOLD_LIMIT = 64
"""Faults of one window that wait here. It has one request in flight; what comes beyond is interrupted for again."""
FETCHED_REMEMBERED = 64
"""Fetched faults of one window whose late interrupts are recognised. The hypervisor repeats none after the fetch."""


@dataclass(slots=True, eq=False)
class FaultLine:
    """One window's fault interrupt. `told` are the numbers interrupted for and not fetched, in order of arrival."""

    window_id: int
    interrupt: int
    pid: int
    task: TaskReference
    told: dict[int, None] = field(default_factory=dict)
    fetched: int = 0
    handling: bool = False
    freed: bool = False
    _done: dict[int, None] = field(default_factory=dict)

    @property
    def pending_faults(self) -> int:
        """The counter that the handler works down to 0 (atomic_t pending_faults)."""
        return len(self.told)

    def interrupted(self, number: int) -> bool:
        """Count an interrupt; False for one that was counted before, or that there is no room for now."""
        if number in self.told or number in self._done or len(self.told) >= TOLD_LIMIT:
            return False
        self.told[number] = None
        return True

    def took(self, number: int) -> bool:
        """H_GET_NX_FAULT gave this fault. False where it had given it before: an interrupt is used up all the same.

        A fault may come before its own interrupt, which was lost: then the one that was told is still to be fetched.
        """
        if number in self._done:
            self.skip()
            return False
        self.told.pop(number, None)
        self.fetched += 1
        self._done[number] = None
        if len(self._done) > FETCHED_REMEMBERED:
            del self._done[next(iter(self._done))]
        return True

    def skip(self) -> None:
        """H_GET_NX_FAULT gave nothing for the oldest interrupt; if the hypervisor repeats that, it counts anew."""
        if self.told:
            del self.told[next(iter(self.told))]


class FaultLines:
    """The lines by window id."""

    def __init__(self) -> None:
        self._by_window: dict[int, FaultLine] = {}

    def __iter__(self) -> Iterator[FaultLine]:
        return iter(self._by_window.values())

    def __len__(self) -> int:
        return len(self._by_window)

    def request(self, window: Window) -> None:
        """The hypervisor has granted the window: its interrupt has a handler from now on (request_threaded_irq)."""
        self._by_window[window.window_id] = FaultLine(window.window_id, window.fault_interrupt, window.pid, window.task)

    def free(self, window_id: int) -> None:
        """The window is gone in the hypervisor, which has waited for its faults (free_irq)."""
        line = self._by_window.pop(window_id, None)
        if line is not None:
            line.freed = True
            line.told.clear()

    def find(self, window_id: int) -> FaultLine | None:
        return self._by_window.get(window_id)
