"""Giving a window back that nobody got: its accelerator could not be reached before it was anybody's."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from lpar.driver import Operation, VasDriver
from lpar.hcall import HcallReturn
from lpar.pool import Pool
from lpar.window import Window
from protocol.hcall_messages import HDeallocateVasWindow


class GiveBackStage(Enum):
    """What the return of a window waits for."""

    DEALLOCATE = auto()
    LOCK_TO_UNCOUNT = auto()
    FINISHED = auto()


class GiveBack(Operation):
    """Deallocates a window beside everything else, however long that takes.

    It counts as used, and as in progress, until the hypervisor has taken it: the accelerator may have it. `over` is
    called then.
    """

    def __init__(
        self, driver: VasDriver, pool: Pool, window: Window, over: Callable[[int], None] | None = None
    ) -> None:
        super().__init__(driver)
        self.pool = pool
        self.window = window
        self._over = over

    def start(self, now_us: int) -> None:
        self.begin()
        self.hcall(GiveBackStage.DEALLOCATE, HDeallocateVasWindow(window_id=self.window.window_id), now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        if answer.succeeded:
            self.driver.fault_lines.free(self.window.window_id)
        else:
            self.driver.note("error", "deallocate_failed", window=self.window.window_id, why=answer.words)
        self.lock(GiveBackStage.LOCK_TO_UNCOUNT, now_us)

    def granted(self, now_us: int) -> None:
        self.stage = GiveBackStage.FINISHED
        self.pool.progress -= 1
        self.pool.used -= 1
        self.unlock(now_us)
        self.end()
        self.driver.reopening.room_may_have_grown(self.pool, now_us)
        if self._over is not None:
            self._over(now_us)
