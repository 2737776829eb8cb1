"""The two walks over a type's windows: reconfig_close_windows and reconfig_open_windows. Source: domain.md 5.5.

Windows close newest first and the oldest of the closed come back, newest of those first. Two properties of Linux that
look like faults are kept on purpose: only the credits gained are used for reopening, although others may be idle,
and the entries skipped from the head of the list are counted whether they are closed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import islice

from lpar.driver import DEFAULT_DOMAIN, Operation, VasDriver
from lpar.failure import os_failure
from lpar.give_back import GiveBack
from lpar.hcall import HcallReturn
from lpar.open import modify_request
from lpar.pool import Pool
from lpar.window import WINDOW_CREDITS, Window
from protocol.codes import OUT_OF_REACH, KernelReason, WindowFlag
from protocol.device_messages import OsFailure
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, WindowAllocated


@dataclass(slots=True)
class Reconfiguration:
    """What a change did, in order: ids of windows closed, new ids of windows reopened, and what stopped it.

    `out_of_reach`: an accelerator kept credits from it, and what they were for comes back by itself.
    """

    closed: list[int] = field(default_factory=list)
    reopened: list[int] = field(default_factory=list)
    failure: OsFailure | None = None
    out_of_reach: bool = False

    def failed(self, answer: HcallReturn) -> None:
        """An hcall stopped it."""
        self.failure = os_failure(KernelReason.RECONFIGURE, answer.words, answer.code)


Finished = Callable[[int], None]


class CloseWalk:
    """reconfig_close_windows: close `excess` active windows from the head of the list; for a migration, all.

    Runs under the mutex, for as long as the hypervisor keeps a deallocation waiting: behind an accelerator that does
    not answer that is its fence. It does not let go of the mutex in between, as a user's close does: its windows are
    flagged and not counted one by one, and opens, other walks and migrations go by both. An hcall's error ends it
    unless the partition migrates; the window that failed keeps its flag and is not counted as closed.
    """

    def __init__(
        self, driver: VasDriver, pool: Pool, excess: int | None, result: Reconfiguration, finished: Finished
    ) -> None:
        self.driver = driver
        self.pool = pool
        self.excess = excess
        self.flag = WindowFlag.MIGRATE_CLOSE if excess is None else WindowFlag.NO_CRED_CLOSE
        self.result = result
        self._finished = finished
        self._ahead: Iterator[Window] = iter(list(pool.newest_first()))
        self._window: Window | None = None

    def step(self, now_us: int) -> None:
        """Close the next active window: flag it, unmap it, deallocate it."""
        for window in self._ahead:
            if not window.is_active:
                window.status |= self.flag
                continue
            window.status |= self.flag
            window.zap()
            self._window = window
            self.driver.hypercalls.issue(HDeallocateVasWindow(window_id=window.window_id), self, now_us)
            return
        self._finished(now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        assert self._window is not None, "a window is being closed"
        if answer.succeeded:
            self.driver.fault_lines.free(self._window.window_id)
        else:
            self.driver.note("error", "deallocate_failed", window=self._window.window_id, why=answer.words)
            if self.excess is not None:
                self.result.failed(answer)
                self._finished(now_us)
                return
        self.pool.nr_close += 1
        self.driver.tally.closed += 1
        self.result.closed.append(self._window.window_id)
        if self.excess is not None:
            self.excess -= 1
            if not self.excess:
                self._finished(now_us)
                return
        self.step(now_us)


class ReopenStage(Enum):
    """What the reopening of one window waits for."""

    ALLOCATE = auto()
    MODIFY = auto()
    DEALLOCATE = auto()


class ReopenWalk:
    """The second half of reconfig_open_windows: go through `windows` and reopen those closed with `flag`.

    Runs under the mutex. A window closed for both reasons only loses `flag`: the later event reopens it. The first
    error ends the walk. Everything of a reopened window is new, and its chip is the hypervisor's choice; it is
    mapped again by its next fault, not here.

    Differs from Linux where the accelerator of a new window is out of reach, for which everybody would wait behind the
    mutex: the window gets another one, once, or stays closed while the walk goes on. What was allocated is given back
    beside all this, and then what the walk has left closed for want of its credit comes back.
    """

    def __init__(
        self,
        driver: VasDriver,
        pool: Pool,
        windows: list[Window],
        flag: WindowFlag,
        result: Reconfiguration,
        finished: Finished,
    ) -> None:
        self.driver = driver
        self.pool = pool
        self.flag = flag
        self.result = result
        self.stage = ReopenStage.ALLOCATE
        self._finished = finished
        self._windows = windows
        self._ahead = iter(windows)
        self._window: Window | None = None
        self._placed_again = False

    def step(self, now_us: int) -> None:
        """Start to reopen the next window of the walk."""
        both = WindowFlag.NO_CRED_CLOSE | WindowFlag.MIGRATE_CLOSE
        for window in self._ahead:
            if window.status & both == both:
                window.status &= ~self.flag
                continue
            if not window.status & self.flag:
                continue
            self._window = window
            self._placed_again = False
            self._allocate(now_us)
            return
        self._finished(now_us)

    def _allocate(self, now_us: int) -> None:
        self.stage = ReopenStage.ALLOCATE
        request = HAllocateVasWindow(window_type=self.pool.credit_type, credits=WINDOW_CREDITS, domain=DEFAULT_DOMAIN)
        self.driver.hypercalls.issue(request, self, now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        window = self._window
        assert window is not None, "a window is being reopened"
        if self.stage is ReopenStage.ALLOCATE:
            self._allocated(window, answer, now_us)
        elif self.stage is ReopenStage.DEALLOCATE:
            self._deallocated(window, answer, now_us)
        elif answer.succeeded:
            self._activate(window, now_us)
        elif answer.code is OUT_OF_REACH:
            self._out_of_reach(window, answer, now_us)
        else:
            self.result.failed(answer)
            self._deallocate(window, now_us)

    def _allocated(self, window: Window, answer: HcallReturn, now_us: int) -> None:
        if not answer.succeeded or not isinstance(answer.reply, WindowAllocated):
            self.result.failed(answer)
            self._finished(now_us)
            return
        window.set_up(answer.reply)
        self.driver.fault_lines.request(window)
        if window.paste_address is None:
            self.result.failure = os_failure(KernelReason.RECONFIGURE, "copy/paste is no longer offered")
            self._deallocate(window, now_us)
            return
        self.stage = ReopenStage.MODIFY
        self.driver.hypercalls.issue(modify_request(window), self, now_us, (OUT_OF_REACH,))

    def _out_of_reach(self, window: Window, answer: HcallReturn, now_us: int) -> None:
        """What it was allocated counts beside the window itself until the hypervisor has it back."""
        self.result.out_of_reach = True
        self.pool.used += 1
        self.pool.progress += 1
        GiveBack(self.driver, self.pool, replace(window), self._reopen_the_rest).start(now_us)
        if self._placed_again:
            self.result.failed(answer)
            self.step(now_us)
        else:
            self._placed_again = True
            self._allocate(now_us)

    def _reopen_the_rest(self, now_us: int) -> None:
        ReopenTheRest(self.driver, self.pool, self._windows, self.flag).start(now_us)

    def _deallocate(self, window: Window, now_us: int) -> None:
        """The window cannot be used: give it back to the hypervisor and stop; its flag stays."""
        self.stage = ReopenStage.DEALLOCATE
        self.driver.hypercalls.issue(HDeallocateVasWindow(window_id=window.window_id), self, now_us)

    def _deallocated(self, window: Window, answer: HcallReturn, now_us: int) -> None:
        if answer.succeeded:
            self.driver.fault_lines.free(window.window_id)
        else:
            self.driver.note("error", "deallocate_failed", window=window.window_id, why=answer.words)
        self._finished(now_us)

    def _activate(self, window: Window, now_us: int) -> None:
        window.status &= ~self.flag
        self.pool.nr_close -= 1
        self.driver.tally.reopened += 1
        self.result.reopened.append(window.window_id)
        if self.pool.nr_close == 0:
            self._finished(now_us)
        else:
            self.step(now_us)


class RestStage(Enum):
    """What the reopening of a walk's rest waits for."""

    LOCK = auto()
    WALK = auto()


class ReopenTheRest(Operation):
    """Reopens what a walk left closed when a credit is back that an accelerator out of reach had kept from it.

    As far as there is room, the oldest first. Where a migration has begun meanwhile it comes after its resume, which
    reopens what the suspend has closed and nothing else.
    """

    def __init__(self, driver: VasDriver, pool: Pool, windows: list[Window], flag: WindowFlag) -> None:
        super().__init__(driver)
        self.pool = pool
        self.flag = flag
        self.result = Reconfiguration()
        self._windows = frozenset(windows)

    def start(self, now_us: int) -> None:
        self.begin()
        self.lock(RestStage.LOCK, now_us)

    def granted(self, now_us: int) -> None:
        if self.driver.migrating:
            self.driver.after_migration.append(self.start)
            self._walked(now_us)
            return
        self.stage = RestStage.WALK
        ReopenWalk(self.driver, self.pool, self._rest(), self.flag, self.result, self._walked).step(now_us)

    def _rest(self) -> list[Window]:
        room = self.pool.total - self.pool.active
        if self.pool.nr_close == 0 or room <= 0:
            return []
        left = [window for window in self.pool.newest_first() if window in self._windows and window.status == self.flag]
        return left[-room:]

    def _walked(self, now_us: int) -> None:
        self.unlock(now_us)
        if self.result.reopened:
            self.driver.note("info", "rest_reopened", reopened=len(self.result.reopened))
        self.end()


def windows_to_reopen(pool: Pool, gained: int | None) -> list[Window]:
    """The part of the list that a reopening goes through; `gained` is None for a migration, which skips nothing.

    With more closed windows than credits gained, the difference is skipped from the head, counting list entries.
    """
    if pool.nr_close == 0:
        return []
    skipped = 0 if gained is None else max(0, pool.nr_close - gained)
    return list(islice(pool.newest_first(), skipped, None))
