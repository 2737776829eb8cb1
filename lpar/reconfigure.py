"""Fitting the windows to a new number of credits: vas_reconfig_capabilties. Source: domain.md 5.5."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from lpar.driver import Operation, VasDriver
from lpar.pool import Pool
from lpar.walk import CloseWalk, Reconfiguration, ReopenWalk, windows_to_reopen
from lpar.window import Window
from protocol.codes import WindowFlag


class ReconfigureStage(Enum):
    """Where a change of a type's total stands."""

    LOCK = auto()
    WALK = auto()
    STRANDED = auto()
    FINISHED = auto()


class Reconfigure(Operation):
    """vas_reconfig_capabilties: set a type's total, then close or reopen windows under the mutex.

    The new total is set before the first hcall, and nothing sets it back. So when an hcall fails midway, the caller is
    told of the failure and yet the new total stands, with the windows that were closed or reopened until then.
    """

    def __init__(
        self, driver: VasDriver, pool: Pool, new_total: int, done: Callable[[Reconfiguration, int], None]
    ) -> None:
        super().__init__(driver)
        self.pool = pool
        self.new_total = new_total
        self.result = Reconfiguration()
        self.stranded = Reconfiguration(reopened=self.result.reopened)
        self.started_us = 0
        self._done = done

    def start(self, now_us: int) -> None:
        self.begin()
        self.started_us = now_us
        self.lock(ReconfigureStage.LOCK, now_us)

    def granted(self, now_us: int) -> None:
        pool, old_total = self.pool, self.pool.total
        # Linux' atomic_set: from here on a failure leaves the new total standing.
        pool.total = self.new_total
        self.stage = ReconfigureStage.WALK
        if old_total < self.new_total:
            self._reopen(windows_to_reopen(pool, self.new_total - old_total), self.result, now_us)
        elif pool.active > self.new_total and not self.driver.bad_citizen:
            CloseWalk(self.driver, pool, pool.active - self.new_total, self.result, self._walked).step(now_us)
        else:
            self._walked(now_us)

    def _reopen(self, windows: list[Window], result: Reconfiguration, now_us: int) -> None:
        ReopenWalk(self.driver, self.pool, windows, WindowFlag.NO_CRED_CLOSE, result, self._walked).step(now_us)

    def _walked(self, now_us: int) -> None:
        """The kernel's part is done; the eager policy goes on with what that left closed.

        What it reopens is reported with the rest, but its failure is not one of the change.
        """
        eager = self.driver.eager and self.result.failure is None and not self.driver.migrating
        if eager and self.stage is ReconfigureStage.WALK:
            self.stage = ReconfigureStage.STRANDED
            self._reopen(self.pool.stranded(), self.stranded, now_us)
            return
        self.stage = ReconfigureStage.FINISHED
        self.unlock(now_us)
        if self.result.failure is not None or self.stranded.failure is not None:
            self.driver.reopening.try_again_later(self.pool, now_us)
        self.driver.tally.reconfigure_us.observe(now_us - self.started_us)
        self._done(self.result, now_us)
        self.end()
