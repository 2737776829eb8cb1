"""One boot of a partition's kernel: everything that a restart of the partition throws away."""

from __future__ import annotations

from lpar.alarms import Alarms
from lpar.boot import Boot
from lpar.configuration import ConfigurationFollower
from lpar.debugfs import add_window_listing
from lpar.device import SystemCalls
from lpar.driver import VasDriver
from lpar.drmgr import Drmgr
from lpar.eager import EagerReopening
from lpar.hcall import Hypercalls
from lpar.lparcfg import Lparcfg
from lpar.migration import MigrationAction, Mobility
from lpar.statistics import KernelStatistics, Tally, snapshot
from lpar.sysfs import FileTree
from protocol.dialer import Dialer
from protocol.effects import Effects
from protocol.hcall_messages import ConfigurationChange, QueryConfiguration, Reconfigured
from protocol.listener import Listener
from protocol.session import Answered, Called, Noticed
from protocol.session_messages import BeatEcho
from protocol.system import LparSettings, SystemSettings

BOOT_RETRY_MS = 100
"""When a process is to repeat a system call that came before the partition had booted."""


class Kernel:
    """Driver, files, processes and the follower of the configuration, wired to the two links."""

    def __init__(
        self, system: SystemSettings, settings: LparSettings, dialer: Dialer, listener: Listener, effects: Effects
    ) -> None:
        self.listener = listener
        self.alarms = Alarms()
        self.hypercalls = Hypercalls(dialer, self.alarms, Tally())
        self.driver = VasDriver(system, self.hypercalls, self.alarms, effects)
        if self.driver.eager:
            self.driver.reopening = EagerReopening(self.driver)
        self.files = FileTree()
        lparcfg = Lparcfg.of(settings)
        lparcfg.add_to(self.files)
        add_window_listing(self.files, self.driver)
        self.calls = SystemCalls(listener, self.driver, self.files, system.limits.descriptors_per_process)
        drmgr = Drmgr(self.driver, self.files, lparcfg)
        self.configuration = ConfigurationFollower(dialer, self.alarms, drmgr)
        self.mobility = Mobility(self.driver)
        self.booted = False

    def boot(self, now_us: int) -> None:
        """The session with the hypervisor is new: ask for capabilities, then for the configuration."""
        Boot(self.driver, self.files, self._up).start(now_us)

    def _up(self, now_us: int) -> None:
        self.booted = True
        self.configuration.booted(now_us)

    def called(self, event: Called, now_us: int) -> None:
        """A system call came in; before the boot has finished it is put off."""
        if self.booted:
            self.calls.called(event, now_us)
        else:
            self.listener.retry(event.session, event.number, BOOT_RETRY_MS)

    def answered(self, event: Answered, now_us: int) -> None:
        """The hypervisor answered a request."""
        if isinstance(event.request, QueryConfiguration | Reconfigured):
            self.configuration.answered(event.reply, now_us)
        else:
            self.hypercalls.answered(event.number, event.reply, now_us)

    def noticed(self, event: Noticed, now_us: int) -> None:
        """The hypervisor says, directly or in a beat's echo, which configuration the partition should be at."""
        if isinstance(event.body, BeatEcho | ConfigurationChange):
            self.configuration.heard(event.body.generation, now_us)

    def migrate(self, action: MigrationAction, now_us: int) -> None:
        """Suspend before a migration, or resume after it."""
        self.mobility.request(action, now_us)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of the driver is under way."""
        return not self.driver.operations

    def statistics(self) -> KernelStatistics:
        driver = self.driver
        return snapshot(driver.tally, driver.pools, len(self.calls.processes), len(driver.mutex))
