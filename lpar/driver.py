"""The state that the driver's operations share: the globals of vas.c, and the frame of an operation."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from lpar.alarms import Alarms
from lpar.fault_line import FaultLines
from lpar.hcall import HcallInFlight, HcallReturn, Hypercalls
from lpar.mutex import Mutex
from lpar.pool import Pool
from lpar.statistics import Tally
from protocol.clock import MILLISECOND_US
from protocol.codes import HYPERVISOR_CHOOSES, CreditType
from protocol.effects import Effects
from protocol.hcall_messages import Domain, NxFeatureCapabilities
from protocol.message import Request
from protocol.system import ReopenPolicy, SystemSettings

DEFAULT_DOMAIN: Domain = (HYPERVISOR_CHOOSES, 0, 0, 0, 0, 0)
"""Only the first doubleword is all ones: the array initialiser of vas.c sets no more than that."""


class VasDriver:
    """One boot's worth of driver state. A partition that is restarted gets a new one.

    `bad_citizen`: it gives no window up when credits are taken or for a migration. No Linux does so; it is there to
    show that the hypervisor revokes nothing and that others have their targets all the same (domain.md 1).
    """

    def __init__(self, system: SystemSettings, hypercalls: Hypercalls, alarms: Alarms, effects: Effects) -> None:
        self.hypercalls = hypercalls
        self.alarms = alarms
        self.effects = effects
        self.deadline_us = system.times.kernel_deadline_ms * MILLISECOND_US
        self.eager = system.reopen is ReopenPolicy.EAGER
        self.tally: Tally = hypercalls.tally
        self.pools = {credit_type: Pool(credit_type) for credit_type in CreditType}
        self.mutex = Mutex()
        self.fault_lines = FaultLines()
        hypercalls.holds = lambda window_id: self.fault_lines.find(window_id) is not None
        self.migrating = False
        self.after_migration: list[Callable[[int], None]] = []
        """What the end of a resume starts."""
        self.copy_paste = False
        self.bad_citizen = False
        self.nx_limits: NxFeatureCapabilities | None = None
        self.operations = 0
        self.reopening = KernelReopening()
        self._last_order = 0

    def note(self, level: str, event: str, **facts: object) -> None:
        """Log with the epoch of this boot's session with the hypervisor; `window` is the fact of one window's lines."""
        self.effects.note(level, event, epoch=self.hypercalls.epoch, **facts)

    def next_order(self) -> int:
        """The place of a new window among all windows of the partition."""
        self._last_order += 1
        return self._last_order


class KernelReopening:
    """`reopen = "kernel"`: beside the driver's own walks nothing brings a closed window back."""

    def room_may_have_grown(self, pool: Pool, now_us: int) -> None:
        """A credit of this type may be free."""

    def after_close(self, pool: Pool, done: Callable[[int], None], now_us: int) -> None:
        """A user has closed a window of this type; `done` lets the call return."""
        done(now_us)

    def try_again_later(self, pool: Pool, now_us: int) -> None:
        """An hcall kept closed windows of this type from coming back."""


class Operation:
    """Work of the driver that waits for the mutex, for an hcall or for a moment.

    What is left to do after a wait is the operation's `stage`; each kind of wait ends in one method. `begin` and
    `end` count operations under way, which a shutdown waits for.
    """

    stage: Enum

    def __init__(self, driver: VasDriver) -> None:
        self.driver = driver
        self.call: HcallInFlight | None = None

    def begin(self) -> None:
        """The operation is under way."""
        self.driver.operations += 1

    def end(self) -> None:
        """The operation is over."""
        self.driver.operations -= 1

    def lock(self, stage: Enum, now_us: int) -> None:
        """Go on at `stage` when the mutex is ours."""
        self.stage = stage
        self.driver.mutex.lock(self, now_us)

    def unlock(self, now_us: int) -> None:
        self.driver.mutex.unlock(self, now_us)

    def hcall(self, stage: Enum, request: Request, now_us: int) -> None:
        """Go on at `stage` when the hcall has returned."""
        self.stage = stage
        self.call = self.driver.hypercalls.issue(request, self, now_us)

    def granted(self, now_us: int) -> None:
        """The mutex is ours."""
        raise NotImplementedError

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        """The hcall is over."""
        raise NotImplementedError
