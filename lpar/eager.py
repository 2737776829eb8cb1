"""`reopen = "eager"`: closed windows come back whenever a credit is free; Linux does not do this (domain.md 5.5)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from lpar.driver import KernelReopening, Operation, VasDriver
from lpar.pool import Pool
from lpar.walk import Reconfiguration, ReopenWalk
from protocol.clock import SECOND_US
from protocol.codes import CreditType, WindowFlag

TRY_AGAIN_US = 1 * SECOND_US


class EagerStage(Enum):
    """What an eager reopening waits for."""

    LOCK = auto()
    WALK = auto()


class ReopenStranded(Operation):
    """The eager policy after a close: reopen the oldest windows without credit for which there is room now."""

    def __init__(self, driver: VasDriver, pool: Pool, done: Callable[[], None]) -> None:
        super().__init__(driver)
        self.pool = pool
        self.result = Reconfiguration()
        self._done = done

    def start(self, now_us: int) -> None:
        self.begin()
        self.lock(EagerStage.LOCK, now_us)

    def granted(self, now_us: int) -> None:
        windows = [] if self.driver.migrating else self.pool.stranded()
        flag = WindowFlag.NO_CRED_CLOSE
        self.stage = EagerStage.WALK
        self._done()
        ReopenWalk(self.driver, self.pool, windows, flag, self.result, self._walked).step(now_us)

    def _walked(self, now_us: int) -> None:
        self.unlock(now_us)
        if self.result.failure is not None:
            self.driver.reopening.try_again_later(self.pool, now_us)
        self.end()


class EagerReopening(KernelReopening):
    """Queues a ReopenStranded per type whenever room may have grown, one at a time, and a second after a failure."""

    def __init__(self, driver: VasDriver) -> None:
        self.driver = driver
        self._queued: set[CreditType] = set()
        self._retrying: set[CreditType] = set()

    def room_may_have_grown(self, pool: Pool, now_us: int) -> None:
        """Reopen what there is room for, after what waits for the mutex already."""
        if pool.credit_type in self._queued or not pool.stranded():
            return
        self._queued.add(pool.credit_type)

        def begun() -> None:
            self._queued.discard(pool.credit_type)

        ReopenStranded(self.driver, pool, begun).start(now_us)

    def try_again_later(self, pool: Pool, now_us: int) -> None:
        """The hypervisor had no credit or no unit to spare just now, or has not been told of the new total yet."""
        if pool.credit_type in self._retrying:
            return
        self._retrying.add(pool.credit_type)

        def again(moment_us: int) -> None:
            self._retrying.discard(pool.credit_type)
            self.room_may_have_grown(pool, moment_us)

        self.driver.alarms.set(now_us + TRY_AGAIN_US, again)
