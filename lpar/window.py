"""A send window as the kernel keeps it (struct pseries_vas_window with its vas_window and vas_user_win_ref)."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.codes import CreditType, WindowFlag
from protocol.hcall_messages import WindowAllocated
from protocol.message import PasteAddress
from protocol.session import Session

WINDOW_CREDITS = 1
"""DEF_WIN_CREDS: PowerVM allows one outstanding request per window, so windows and LPAR credits are the same number."""


@dataclass(slots=True, eq=False)
class Mapping:
    """A mapping of a window's paste page in one process (a vm_area_struct).

    `backed` says whether the page is mapped: a window that loses its credit has its mapping zapped, and the next
    fault of an active window maps it again.
    """

    number: int
    backed: bool = True


@dataclass(frozen=True, slots=True)
class TaskReference:
    """Who opened a window (struct vas_user_win_ref): the process by its session, and the thread of it."""

    session: Session
    thread_id: int


@dataclass(slots=True, eq=False)
class Window:
    """One window. `status` 0 is active; otherwise it says why the window is closed in the hypervisor.

    `order` rises over all windows of the partition, in the order in which they entered the lists. `window_id`, the
    interrupts and `paste_address` are new after each reopening. `mapping` is the last one made by mmap. `task` gets the
    status block of a request that met an absent page; it may have exited.
    """

    credit_type: CreditType
    pid: int
    descriptor: int | None
    task: TaskReference
    order: int = 0
    window_id: int = 0
    completion_interrupt: int = 0
    fault_interrupt: int = 0
    paste_address: PasteAddress | None = None
    status: WindowFlag = WindowFlag.ACTIVE
    mapping: Mapping | None = None

    @property
    def is_active(self) -> bool:
        return self.status == WindowFlag.ACTIVE

    def set_up(self, allocated: WindowAllocated) -> None:
        """Take over what H_ALLOCATE_VAS_WINDOW returned in R4 to R7."""
        self.window_id = allocated.window_id
        self.paste_address = allocated.paste_address
        self.completion_interrupt = allocated.completion_interrupt
        self.fault_interrupt = allocated.fault_interrupt

    def zap(self) -> None:
        """Unmap the paste page; without an mmap so far there is nothing to unmap."""
        if self.mapping is not None:
            self.mapping.backed = False
