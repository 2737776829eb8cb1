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
    """The eager policy: reopen the oldest windows without credit for which there is room now.

    `closes` are calls of users that return when the walk is over: whoever has closed a window finds what it made room
    for.
    """

    def __init__(self, driver: VasDriver, pool: Pool, begun: Callable[[], None]) -> None:
        super().__init__(driver)
        self.pool = pool
        self.result = Reconfiguration()
        self.closes: list[Callable[[int], None]] = []
        self._begun = begun

    def start(self, now_us: int) -> None:
        self.begin()
        self.lock(EagerStage.LOCK, now_us)

    def granted(self, now_us: int) -> None:
        windows = [] if self.driver.migrating else self.pool.stranded()
        flag = WindowFlag.NO_CRED_CLOSE
        self.stage = EagerStage.WALK
        self._begun()
        ReopenWalk(self.driver, self.pool, windows, flag, self.result, self._walked).step(now_us)

    def _walked(self, now_us: int) -> None:
        self.unlock(now_us)
        if self.result.failure is not None:
            self.driver.reopening.try_again_later(self.pool, now_us)
        for close_done in self.closes:
            close_done(now_us)
        self.end()


class EagerReopening(KernelReopening):
    """Queues a ReopenStranded per type whenever room may have grown, one at a time, and a second after a failure."""

    def __init__(self, driver: VasDriver) -> None:
        self.driver = driver
        self._queued: dict[CreditType, ReopenStranded] = {}
        self._retrying: set[CreditType] = set()

    def room_may_have_grown(self, pool: Pool, now_us: int) -> None:
        """Reopen what there is room for, after what waits for the mutex already."""
        self._reopen(pool, now_us, None)

    def after_close(self, pool: Pool, done: Callable[[int], None], now_us: int) -> None:
        """The close returns when the windows that it made room for are back."""
        self._reopen(pool, now_us, done)

    def _reopen(self, pool: Pool, now_us: int, close_done: Callable[[int], None] | None) -> None:
        queued = self._queued.get(pool.credit_type)
        if queued is None and pool.stranded():
            queued = ReopenStranded(self.driver, pool, lambda: self._begun(pool.credit_type))
            self._queued[pool.credit_type] = queued
            if close_done is not None:
                queued.closes.append(close_done)
            queued.start(now_us)
        elif close_done is None:
            return
        elif queued is None:
            close_done(now_us)
        else:
            queued.closes.append(close_done)

    def _begun(self, credit_type: CreditType) -> None:
        del self._queued[credit_type]

    def try_again_later(self, pool: Pool, now_us: int) -> None:
        """The hypervisor had no credit or no unit to spare just now, or has not been told of the new total yet."""
        if pool.credit_type in self._retrying:
            return
        self._retrying.add(pool.credit_type)

        def again(moment_us: int) -> None:
            self._retrying.discard(pool.credit_type)
            self.room_may_have_grown(pool, moment_us)

        self.driver.alarms.set(now_us + TRY_AGAIN_US, again)
