"""One boot of a partition's kernel: everything that a restart of the partition throws away."""

from __future__ import annotations

from lpar.alarms import Alarms
from lpar.boot import Boot
from lpar.configuration import ConfigurationFollower
from lpar.csb import StatusBlocks
from lpar.debugfs import add_fault_listing, add_file_listing, add_window_listing
from lpar.device import SystemCalls
from lpar.driver import VasDriver
from lpar.drmgr import Drmgr
from lpar.eager import EagerReopening
from lpar.hcall import Hypercalls
from lpar.lparcfg import Lparcfg
from lpar.metrics import metrics_of
from lpar.migration import MigrationAction, MigrationEvents
from lpar.mobility import MigrationFile
from lpar.nx_fault import NxFaults
from lpar.signal import Signals
from lpar.statistics import KernelStatistics, Tally, snapshot
from lpar.sysfs import FileTree
from lpar.system_parameters import SystemParameters
from protocol.device_messages import RaiseSignal, UpdateCsb
from protocol.dialer import Dialer
from protocol.effects import Effects
from protocol.hcall_messages import ConfigurationChange, FaultInterrupt, QueryConfiguration, Reconfigured
from protocol.listener import Listener
from protocol.metrics import Family
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
        self.dynamic_qos = settings.dynamic_qos
        self.alarms = Alarms()
        self.hypercalls = Hypercalls(dialer, self.alarms, Tally())
        self.driver = VasDriver(system, self.hypercalls, self.alarms, effects)
        self.driver.bad_citizen = settings.bad_citizen
        if self.driver.eager:
            self.driver.reopening = EagerReopening(self.driver)
        self.files = FileTree()
        lparcfg = Lparcfg.of(settings)
        lparcfg.add_to(self.files, SystemParameters(self.driver, lparcfg).write)
        add_window_listing(self.files, self.driver)
        add_fault_listing(self.files, self.driver)
        add_file_listing(self.files)
        self.calls = SystemCalls(listener, self.driver, self.files, system.limits.descriptors_per_process)
        self.signals = Signals(listener, self.driver, self.calls)
        self.status_blocks = StatusBlocks(listener, self.driver, self.calls, self.signals)
        self.nx_faults = NxFaults(self.driver, self.status_blocks.update)
        drmgr = Drmgr(self.driver, self.files, lparcfg)
        self.configuration = ConfigurationFollower(dialer, self.alarms, drmgr)
        self.migration_events = MigrationEvents(self.driver)
        MigrationFile(self.driver, self.migration_events).add_to(self.files)
        self.booted = False

    def boot(self, now_us: int) -> None:
        """The session with the hypervisor is new: ask for capabilities, then for the configuration."""
        Boot(self.driver, self.files, self._up, dynamic_qos=self.dynamic_qos).start(now_us)

    def _up(self, now_us: int) -> None:
        self.booted = True
        self.configuration.booted(now_us)

    def called(self, event: Called, now_us: int) -> None:
        """A system call came in; before the boot has finished and the entitlement is known it is put off."""
        if self.booted and self.configuration.knows_base:
            self.calls.called(event, now_us)
        else:
            self.listener.retry(event.session, event.number, BOOT_RETRY_MS)

    def process_answered(self, event: Answered, now_us: int) -> None:
        """A process answered what the kernel did to it."""
        if isinstance(event.request, RaiseSignal):
            self.signals.answered(event, now_us)
        elif isinstance(event.request, UpdateCsb):
            self.status_blocks.answered(event)

    def answered(self, event: Answered, now_us: int) -> None:
        """The hypervisor answered a request."""
        if isinstance(event.request, QueryConfiguration | Reconfigured):
            self.configuration.answered(event.reply, now_us)
        else:
            self.hypercalls.answered(event.number, event.reply, now_us)

    def noticed(self, event: Noticed, now_us: int) -> None:
        """A fault interrupt, or which configuration the partition should be at: directly or in a beat's echo."""
        if isinstance(event.body, FaultInterrupt):
            self.nx_faults.interrupted(event.body, now_us)
        elif isinstance(event.body, BeatEcho | ConfigurationChange):
            self.configuration.heard(event.body.generation, now_us)

    def migrate(self, action: MigrationAction, now_us: int) -> None:
        """One event of a migration alone: suspend, or resume."""
        self.migration_events.request(action, now_us)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of the driver is under way."""
        return not self.driver.operations

    @property
    def left_behind(self) -> tuple[int, int]:
        """Windows that hold credit, opens and closes under way included, and operations of the driver."""
        return sum(pool.used for pool in self.driver.pools.values()), self.driver.operations

    def statistics(self) -> KernelStatistics:
        driver = self.driver
        pending_faults = sum(line.pending_faults for line in driver.fault_lines)
        return snapshot(driver.tally, driver.pools, len(self.calls.processes), len(driver.mutex), pending_faults)

    def metrics(self) -> list[Family]:
        """This boot's counts as metrics; a restart of the partition sets the counters back to 0."""
        return metrics_of(self.driver, len(self.calls.processes))
