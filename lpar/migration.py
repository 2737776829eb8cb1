"""Live partition migration, the kernel's side: vas_migration_handler. Source: domain.md 5.7.

Before the partition moves, every window must be closed: the hypervisor refuses to migrate otherwise. Afterwards all of
them are reopened, whatever the new total is. User space is not frozen meanwhile: credits may change in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from lpar.driver import Operation, VasDriver
from lpar.hcall import HcallReturn
from lpar.pool import FEATURE, Pool
from lpar.walk import CloseWalk, Reconfiguration, ReopenWalk, windows_to_reopen
from protocol.clock import MILLISECOND_US
from protocol.codes import WindowFlag
from protocol.hcall_messages import HQueryVasCapabilities, VasFeatureCapabilities

OPENS_IN_PROGRESS_WAIT_US = 10 * MILLISECOND_US


class MigrationAction(Enum):
    """VAS_SUSPEND and VAS_RESUME."""

    SUSPEND = auto()
    RESUME = auto()


class MigrationStage(Enum):
    """What a migration event waits for, for one type after the other: QoS first."""

    QUERY = auto()
    LOCK = auto()
    WALK = auto()
    SLEEP = auto()
    LOCK_AGAIN = auto()
    FINISHED = auto()


class MigrationEvent(Operation):
    """One suspend or resume. Errors are ignored on suspend and end a resume.

    An accelerator out of reach is no reason to leave the windows of the other type closed.
    """

    def __init__(
        self, driver: VasDriver, action: MigrationAction, done: Callable[[Reconfiguration, int], None]
    ) -> None:
        super().__init__(driver)
        self.action = action
        self.result = Reconfiguration()
        self._done = done
        self._ahead: deque[Pool] = deque(pool for pool in driver.pools.values() if pool.present)
        self._target: int | None = None

    def start(self, now_us: int) -> None:
        """Set the flag that refuses opens, without the mutex; then go through the types."""
        self.begin()
        if self.driver.copy_paste:
            self.driver.migrating = self.action is MigrationAction.SUSPEND
        else:
            self._ahead.clear()
        self._next(now_us)

    @property
    def pool(self) -> Pool:
        return self._ahead[0]

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        target = answer.reply.target_lpar_credits if isinstance(answer.reply, VasFeatureCapabilities) else None
        self._target = target if answer.succeeded else None
        if self._target is None and self.action is MigrationAction.RESUME:
            self.result.failed(answer)
            self._finish(now_us)
            return
        if self._target != self.pool.total:
            total, action = self.pool.total, self.action.name.lower()
            self.driver.note("warning", "credits_differ", total=total, target=self._target, action=action)
        self.lock(MigrationStage.LOCK, now_us)

    def granted(self, now_us: int) -> None:
        keeps = self.action is MigrationAction.SUSPEND and self.driver.bad_citizen
        if self.stage is MigrationStage.LOCK_AGAIN or keeps:
            self._await_opens(now_us)
            return
        self.stage = MigrationStage.WALK
        if self.action is MigrationAction.SUSPEND:
            CloseWalk(self.driver, self.pool, None, self.result, self._await_opens).step(now_us)
            return
        assert self._target is not None, "a resume without a target has ended"
        self.pool.total = self._target
        windows, flag = windows_to_reopen(self.pool, None), WindowFlag.MIGRATE_CLOSE
        ReopenWalk(self.driver, self.pool, windows, flag, self.result, self._resumed).step(now_us)

    def _await_opens(self, now_us: int) -> None:
        """Opens under way are in no list yet: they see the flag and undo themselves, for which they need the mutex."""
        in_progress = self.pool.progress
        self.unlock(now_us)
        if in_progress:
            self.stage = MigrationStage.SLEEP
            self.driver.alarms.set(now_us + OPENS_IN_PROGRESS_WAIT_US, self._awake)
        else:
            self._ahead.popleft()
            self._next(now_us)

    def _awake(self, now_us: int) -> None:
        self.lock(MigrationStage.LOCK_AGAIN, now_us)

    def _resumed(self, now_us: int) -> None:
        self.unlock(now_us)
        pool = self._ahead.popleft()
        if self.result.failure is not None:
            self.driver.reopening.try_again_later(pool, now_us)
            if not self.result.out_of_reach:
                self._finish(now_us)
                return
        self.driver.reopening.room_may_have_grown(pool, now_us)
        self._next(now_us)

    def _next(self, now_us: int) -> None:
        if self._ahead:
            query = HQueryVasCapabilities(query_type=FEATURE[self.pool.credit_type])
            self.hcall(MigrationStage.QUERY, query, now_us)
        else:
            self._finish(now_us)

    def _finish(self, now_us: int) -> None:
        self.stage = MigrationStage.FINISHED
        self._done(self.result, now_us)
        self.end()
        if self.action is MigrationAction.RESUME:
            put_off, self.driver.after_migration = self.driver.after_migration, []
            for start in put_off:
                start(now_us)


EventDone = Callable[[Reconfiguration, int], None]


class MigrationEvents:
    """Runs suspend and resume events one after the other, in the order in which they were asked for."""

    def __init__(self, driver: VasDriver) -> None:
        self.driver = driver
        self._waiting: deque[tuple[MigrationAction, EventDone | None]] = deque()
        self._running = False

    def request(self, action: MigrationAction, now_us: int, over: EventDone | None = None) -> None:
        """Start the event, or queue it behind the one that runs; `over` is called when it has ended."""
        self._waiting.append((action, over))
        if not self._running:
            self._next(now_us)

    def _next(self, now_us: int) -> None:
        if self._waiting:
            self._running = True
            action, over = self._waiting.popleft()

            def done(result: Reconfiguration, moment_us: int) -> None:
                self._running = False
                self._tell(action, result)
                if over is not None:
                    over(result, moment_us)
                if not self._running:
                    self._next(moment_us)

            MigrationEvent(self.driver, action, done).start(now_us)

    def _tell(self, action: MigrationAction, result: Reconfiguration) -> None:
        self.driver.note(
            "info" if result.failure is None else "error",
            "migration",
            action=action.name.lower(),
            closed=len(result.closed),
            reopened=len(result.reopened),
            why="" if result.failure is None else result.failure.detail,
        )
