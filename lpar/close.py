"""Closing a window when the last reference to its file goes: vas_deallocate_window. Source: domain.md 5.4.

Differs from Linux: a close that the hypervisor keeps waiting, as it does while an NX unit does not answer, lets go of
the driver's mutex after MUTEX_HOLD_US, because everybody else's opens wait for that too.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from lpar.alarms import Alarm
from lpar.driver import Operation, VasDriver
from lpar.hcall import HcallReturn
from lpar.mutex import MUTEX_HOLD_US
from lpar.window import Window
from protocol.hcall_messages import HDeallocateVasWindow


class CloseStage(Enum):
    """What a close waits for."""

    LOCK = auto()
    DEALLOCATE = auto()
    LINGER = auto()
    FINISHED = auto()


class CloseWindow(Operation):
    """One close, without a deadline: the hypervisor is busy until the window's last request has completed.

    A window already closed in the hypervisor is only dropped. If the deallocation fails, the window stays in the list
    and counted for ever, as in Linux, where release returns early; that is logged.
    """

    def __init__(self, driver: VasDriver, window: Window, done: Callable[[int], None]) -> None:
        super().__init__(driver)
        self.window = window
        self.pool = driver.pools[window.credit_type]
        self._done = done
        self._hold: Alarm | None = None

    def start(self, now_us: int) -> None:
        self.begin()
        self.lock(CloseStage.LOCK, now_us)

    def granted(self, now_us: int) -> None:
        if self.window.is_active:
            request = HDeallocateVasWindow(window_id=self.window.window_id)
            self._hold = self.driver.alarms.set(now_us + MUTEX_HOLD_US, self._linger)
            self.hcall(CloseStage.DEALLOCATE, request, now_us)
        else:
            self.pool.nr_close -= 1
            self._remove(now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        self.driver.alarms.cancel(self._hold)
        if answer.succeeded:
            self.driver.fault_lines.free(self.window.window_id)
            self._remove(now_us)
            return
        driver = self.driver
        driver.tally.leaked += 1
        driver.note("error", "window_leaked", window=self.window.window_id, why=answer.words)
        if self.stage is CloseStage.LINGER:
            self.pool.closed_at_last(credit_back=False)
        self._finish(now_us)
        self._done(now_us)

    def _linger(self, now_us: int) -> None:
        """Others go on meanwhile; nobody finds the window any more, and its credit stays taken."""
        self.stage = CloseStage.LINGER
        self.pool.set_aside(self.window)
        self.unlock(now_us)

    def _remove(self, now_us: int) -> None:
        if self.stage is CloseStage.LINGER:
            self.pool.closed_at_last(credit_back=True)
        else:
            self.pool.remove(self.window)
        self.driver.tally.released += 1
        self._finish(now_us)
        self.driver.reopening.after_close(self.pool, self._done, now_us)

    def _finish(self, now_us: int) -> None:
        lingered, self.stage = self.stage is CloseStage.LINGER, CloseStage.FINISHED
        if not lingered:
            self.unlock(now_us)
        self.end()
