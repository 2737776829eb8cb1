"""Opening a window: vas_allocate_window behind the ioctl VAS_TX_WIN_OPEN. Source: domain.md 3 and 5.3.

Differs from Linux: an open ends with EIO, reason hcall_busy, when its deadline has passed, instead of waiting without
end for the mutex or a busy hypervisor. What it may hold in the hypervisor by then is undone in the background, and
stays counted as used until it is. Where the accelerator of its window is out of reach, which a long busy hint tells, it
asks for another window, once. And an allocation lets go of the mutex after MUTEX_HOLD_US: a restarted hypervisor may
put it off until a close has made room, and closes need the mutex.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from lpar.alarms import Alarm
from lpar.driver import DEFAULT_DOMAIN, Operation, VasDriver
from lpar.failure import os_failure, raw_failure
from lpar.give_back import GiveBack
from lpar.hcall import HcallReturn
from lpar.mutex import MUTEX_HOLD_US
from lpar.window import WINDOW_CREDITS, TaskReference, Window
from protocol.codes import MODIFY_FLAGS, OUT_OF_REACH, CreditType, KernelReason
from protocol.device_messages import OsFailure, TxWinOpen
from protocol.hcall_messages import (
    Associativity,
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HHomeNodeAssociativity,
    HModifyVasWindow,
    WindowAllocated,
)

API_VERSION = 1
QOS_CREDIT_FLAG = 0x1
"""VAS_TX_WIN_FLAG_QOS_CREDIT. Other bits are ignored, as in mainline."""
NEAR_CALLER = -1
"""The only vas_id that means anything on PowerVM."""
VAS_ID_RANGE = range(-(1 << 15), 1 << 15)
VPHN_FLAG_VCPU = 1


def attribute_failure(attributes: TxWinOpen) -> OsFailure | None:
    """Check what the caller put in struct vas_tx_win_open_attr. Reserved fields and unknown flags are not looked at."""
    if attributes.version != API_VERSION:
        return os_failure(KernelReason.VERSION, f"version {attributes.version}, expected {API_VERSION}")
    if attributes.vas_id not in VAS_ID_RANGE:
        return os_failure(KernelReason.FLAGS, f"vas_id {attributes.vas_id} does not fit into 16 bits")
    if attributes.flags < 0:
        return os_failure(KernelReason.FLAGS, f"flags {attributes.flags} is negative")
    return None


class OpenStage(Enum):
    """What an open waits for."""

    ASSOCIATIVITY = auto()
    LOCK_TO_ALLOCATE = auto()
    ALLOCATE = auto()
    MODIFY = auto()
    LOCK_TO_LIST = auto()
    DEALLOCATE = auto()
    LOCK_TO_UNCOUNT = auto()
    FINISHED = auto()


class OpenWindow(Operation):
    """One open. `done(outcome, now_us)` is called once: with the window, or with why there is none."""

    def __init__(
        self,
        driver: VasDriver,
        pid: int,
        task: TaskReference,
        attributes: TxWinOpen,
        done: Callable[[Window | OsFailure, int], None],
    ) -> None:
        super().__init__(driver)
        credit_type = CreditType.QOS if attributes.flags & QOS_CREDIT_FLAG else CreditType.DEFAULT
        self.pool = driver.pools[credit_type]
        self.window = Window(credit_type, pid, attributes.descriptor, task)
        self.attributes = attributes
        self.domain = DEFAULT_DOMAIN
        self.deadline: Alarm | None = None
        self.failure: OsFailure | None = None
        self.expired = False
        self.left: Window | None = None
        """The window whose accelerator is out of reach, while another one is asked for."""
        self.placed_again = False
        self.lingers = False  # It waits for its allocation without the mutex.
        self._hold: Alarm | None = None
        self.started_us = 0
        self._done: Callable[[Window | OsFailure, int], None] | None = done

    def start(self, now_us: int) -> None:
        """Take a credit of the partition's own count, before any hcall."""
        self.begin()
        self.started_us = now_us
        self.pool.used += 1
        if self.pool.used > self.pool.total:
            self._give_up(os_failure(KernelReason.NO_CREDIT, f"{self.pool.total} credits in all"), now_us)
            return
        self.deadline = self.driver.alarms.set(now_us + self.driver.deadline_us, self._expire)
        if self.attributes.vas_id == NEAR_CALLER:
            request = HHomeNodeAssociativity(flags=VPHN_FLAG_VCPU, processor_id=self.attributes.processor_id)
            self.hcall(OpenStage.ASSOCIATIVITY, request, now_us)
        else:
            self.lock(OpenStage.LOCK_TO_ALLOCATE, now_us)

    def granted(self, now_us: int) -> None:
        if self.stage is OpenStage.LOCK_TO_ALLOCATE:
            self._allocate(now_us)
        elif self.stage is OpenStage.LOCK_TO_LIST:
            self._list(now_us)
        else:
            self.pool.progress -= 1
            self.unlock(now_us)
            self._give_up(self.failure, now_us)
            self.driver.reopening.room_may_have_grown(self.pool, now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        if self.stage is OpenStage.ASSOCIATIVITY:
            self._placed(answer, now_us)
        elif self.stage is OpenStage.ALLOCATE:
            self._allocated(answer, now_us)
        elif self.stage is OpenStage.MODIFY:
            self._modified(answer, now_us)
        elif self.stage is OpenStage.DEALLOCATE:
            if answer.succeeded:
                self.driver.fault_lines.free(self.window.window_id)
            else:
                self.driver.note("error", "deallocate_failed", window=self.window.window_id, why=answer.words)
            self.lock(OpenStage.LOCK_TO_UNCOUNT, now_us)

    def _placed(self, answer: HcallReturn, now_us: int) -> None:
        """Linux passes the hcall's code on as if it were an errno, -55 for an unknown processor (domain.md 3).

        A positive code would even be taken for a pointer to a window there; here it is EIO.
        """
        if answer.succeeded and isinstance(answer.reply, Associativity):
            self.domain = answer.reply.domain
            self.lock(OpenStage.LOCK_TO_ALLOCATE, now_us)
            return
        failure = hcall_failure(answer) if answer.code is None else raw_failure(answer.code, answer.words)
        self._give_up(failure, now_us)

    def _allocate(self, now_us: int) -> None:
        if self.driver.migrating:
            self.unlock(now_us)
            self._give_up(os_failure(KernelReason.MIGRATION), now_us)
            return
        request = HAllocateVasWindow(window_type=self.pool.credit_type, credits=WINDOW_CREDITS, domain=self.domain)
        self._hold = self.driver.alarms.set(now_us + MUTEX_HOLD_US, self._linger)
        self.hcall(OpenStage.ALLOCATE, request, now_us)

    def _linger(self, now_us: int) -> None:
        """Others go on meanwhile. It is in progress: a window may be granted, and a migration has to wait for that."""
        self.lingers = True
        self.pool.progress += 1
        self.unlock(now_us)

    def _not_allocated(self, now_us: int) -> None:
        self.driver.alarms.cancel(self._hold)
        if not self.lingers:
            self.unlock(now_us)
            return
        self.lingers = False
        self.pool.progress -= 1

    def _allocated(self, answer: HcallReturn, now_us: int) -> None:
        if not answer.succeeded or not isinstance(answer.reply, WindowAllocated):
            self._not_allocated(now_us)
            if self.left is not None and not self.expired:
                self._keep_the_first(self.left, now_us)
            else:
                self._give_up(self.failure or hcall_failure(answer), now_us)
            return
        self._give_back_the_first(now_us)
        self.window.set_up(answer.reply)
        self.driver.fault_lines.request(self.window)
        self.driver.alarms.cancel(self._hold)
        if not self.lingers:
            self._linger(now_us)
        self.lingers = False
        if self.window.paste_address is None:
            self._undo(self.failure or os_failure(KernelReason.NOT_SUPPORTED), now_us)
        elif self.expired:
            self._undo(self.failure, now_us)
        else:
            self._modify(now_us)

    def _modify(self, now_us: int) -> None:
        """Bind the window. The first time it is heard when that will take long; otherwise it loops."""
        self.stage = OpenStage.MODIFY
        heard = () if self.placed_again else (OUT_OF_REACH,)
        self.call = self.driver.hypercalls.issue(modify_request(self.window), self, now_us, heard)

    def _modified(self, answer: HcallReturn, now_us: int) -> None:
        if self.expired:
            self._undo(self.failure, now_us)
        elif answer.succeeded:
            self.lock(OpenStage.LOCK_TO_LIST, now_us)
        elif answer.code is OUT_OF_REACH:
            self._place_again(now_us)
        else:
            self._undo(hcall_failure(answer), now_us)

    def _place_again(self, now_us: int) -> None:
        """Ask for another window with another credit; where there is none, wait for this one's accelerator."""
        self.placed_again = True
        self.left = self.window
        self.window = Window(self.pool.credit_type, self.left.pid, self.attributes.descriptor, self.left.task)
        self.pool.used += 1
        if self.pool.used > self.pool.total:
            self._keep_the_first(self.left, now_us)
        else:
            self.lock(OpenStage.LOCK_TO_ALLOCATE, now_us)

    def _keep_the_first(self, first: Window, now_us: int) -> None:
        self.window, self.left = first, None
        self.pool.used -= 1
        self._modify(now_us)

    def _give_back_the_first(self, now_us: int) -> None:
        if self.left is not None:
            GiveBack(self.driver, self.pool, self.left).start(now_us)
            self.left = None

    def _list(self, now_us: int) -> None:
        """The late check: windows that lost their credit have first claim on new ones (domain.md 5.3)."""
        if self.pool.nr_close == 0 and not self.driver.migrating:
            self.pool.add(self.window, self.driver.next_order())
            self.pool.progress -= 1
            self.driver.tally.opens += 1
            self.unlock(now_us)
            self._finish(self.window, now_us)
            return
        reason = KernelReason.MIGRATION if self.driver.migrating else KernelReason.CLOSED_WINDOWS
        self.unlock(now_us)
        self._undo(os_failure(reason), now_us)

    def _undo(self, failure: OsFailure | None, now_us: int) -> None:
        """Give the window back without the mutex; only the counter of opens in progress needs it afterwards."""
        self.failure = failure
        self.hcall(OpenStage.DEALLOCATE, HDeallocateVasWindow(window_id=self.window.window_id), now_us)

    def _give_up(self, failure: OsFailure | None, now_us: int) -> None:
        assert failure is not None, "an open that ends without a window has a reason"
        self._give_back_the_first(now_us)
        self.pool.used -= 1
        self._finish(failure, now_us)

    def _expire(self, now_us: int) -> None:
        """The deadline: the caller is answered now; what may exist in the hypervisor is undone when that is known."""
        self.expired = True
        busy = os_failure(KernelReason.HCALL_BUSY, f"waited for {self.stage.name.lower()}")
        self.failure = self.failure or busy
        stage = self.stage
        if stage is OpenStage.LOCK_TO_ALLOCATE:
            self.driver.mutex.withdraw(self)
            self._give_up(self.failure, now_us)
        elif stage is OpenStage.ASSOCIATIVITY:
            self._abandon_call()
            self._give_up(self.failure, now_us)
        elif stage is OpenStage.LOCK_TO_LIST:
            self.driver.mutex.withdraw(self)
            self._undo(self.failure, now_us)
        elif stage is OpenStage.ALLOCATE and self._abandon_call():
            self._not_allocated(now_us)
            self._give_up(self.failure, now_us)
        elif stage is OpenStage.MODIFY and self._abandon_call():
            self._undo(self.failure, now_us)
        self._answer(self.failure, now_us)

    def _abandon_call(self) -> bool:
        assert self.call is not None, "an hcall was issued"
        return self.driver.hypercalls.give_up(self.call)

    def _finish(self, outcome: Window | OsFailure, now_us: int) -> None:
        self.stage = OpenStage.FINISHED
        self.driver.alarms.cancel(self.deadline)
        self._answer(outcome, now_us)
        self.end()

    def _answer(self, outcome: Window | OsFailure, now_us: int) -> None:
        done, self._done = self._done, None
        if done is not None:
            self.driver.tally.open_us.observe(now_us - self.started_us)
            done(outcome, now_us)


def modify_request(window: Window) -> HModifyVasWindow:
    """Bind a window to its opener's address space: the saved pid, thread id 0, AMR 0 (domain.md 1)."""
    return HModifyVasWindow(window_id=window.window_id, process_id=window.pid, flags=MODIFY_FLAGS)


def hcall_failure(answer: HcallReturn) -> OsFailure:
    """EIO with the hypervisor's code; the merged driver does not tell its codes apart (domain.md 1)."""
    return os_failure(KernelReason.HCALL_FAILED, answer.words, answer.code)
