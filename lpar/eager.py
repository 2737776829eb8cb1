"""`reopen = "eager"`: closed windows come back whenever a credit is free; Linux does not do this (domain.md 5.5)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from lpar.driver import Operation, VasDriver
from lpar.pool import Pool
from lpar.walk import Reconfiguration, ReopenWalk
from protocol.codes import CreditType, WindowFlag


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
        if self.result.failure is not None:
            self.driver.effects.note("warning", "stranded_windows_stay_closed", why=self.result.failure.detail)
        self.unlock(now_us)
        self.end()


class EagerReopening:
    """`reopen = "eager"`: queues a ReopenStranded per type whenever room may have grown, one at a time."""

    def __init__(self, driver: VasDriver) -> None:
        self.driver = driver
        self._queued: set[CreditType] = set()

    def __call__(self, pool: Pool, now_us: int) -> None:
        if pool.credit_type in self._queued or not pool.stranded():
            return
        self._queued.add(pool.credit_type)

        def begun() -> None:
            self._queued.discard(pool.credit_type)

        ReopenStranded(self.driver, pool, begun).start(now_us)
