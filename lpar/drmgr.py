"""Dynamic LPAR operations in the partition: the path that a change takes to the driver. Source: domain.md 5.6, 6."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from lpar.driver import Operation, VasDriver
from lpar.hcall import HcallReturn
from lpar.lparcfg import Lparcfg
from lpar.mobility import MIGRATION
from lpar.pool import FEATURE
from lpar.reconfigure import Reconfigure
from lpar.sysfs import UPDATE_TOTAL_CREDITS, FileTree
from lpar.walk import Reconfiguration
from protocol.codes import CreditType, KernelReason
from protocol.device_messages import OsFailure
from protocol.hcall_messages import (
    ConfigurationChange,
    ConfigurationKind,
    HQueryVasCapabilities,
    VasFeatureCapabilities,
)

Applied = Callable[[Reconfiguration, int], None]


class DlparStage(Enum):
    """What a processor change waits for."""

    QUERY = auto()
    FINISHED = auto()


class DlparCpu(Operation):
    """pseries_vas_dlpar_cpu: ask for the default credits and fit the windows to them.

    Nothing to do where copy/paste is not offered: the processor change must succeed without the accelerator.
    """

    def __init__(self, driver: VasDriver, done: Applied) -> None:
        super().__init__(driver)
        self.pool = driver.pools[CreditType.DEFAULT]
        self._done = done

    def start(self, now_us: int) -> None:
        if not self.driver.copy_paste:
            self._done(Reconfiguration(), now_us)
            return
        self.begin()
        query = HQueryVasCapabilities(query_type=FEATURE[CreditType.DEFAULT])
        self.hcall(DlparStage.QUERY, query, now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        self.stage = DlparStage.FINISHED
        if answer.succeeded and isinstance(answer.reply, VasFeatureCapabilities):
            Reconfigure(self.driver, self.pool, answer.reply.target_lpar_credits, self._done).start(now_us)
        else:
            failed = Reconfiguration()
            failed.failed(answer)
            self._done(failed, now_us)
        self.end()


class Drmgr:
    """The partition's drmgr and the device-tree notifier of the driver."""

    def __init__(self, driver: VasDriver, files: FileTree, lparcfg: Lparcfg) -> None:
        self.driver = driver
        self.files = files
        self.lparcfg = lparcfg

    def apply(self, change: ConfigurationChange, now_us: int, done: Applied) -> None:
        """Carry a change out; `done` is called once with what it did."""
        if change.kind is ConfigurationKind.QOS:
            self._write_qos_credits(change.amount, now_us, done)
        elif change.kind is ConfigurationKind.MIGRATION:
            self._write_stream_id(change.generation, now_us, done)
        elif change.kind is ConfigurationKind.ENTITLEMENT:
            self.lparcfg.turns.lock(NewEntitlement(self, change.amount, done), now_us)
        else:
            self._notify_processors(now_us, done)

    def _notify_processors(self, now_us: int, done: Applied) -> None:
        """pseries_vas_notifier: a shared partition's credits follow its entitlement, not its virtual processors."""
        if self.lparcfg.shared:
            done(Reconfiguration(), now_us)
        else:
            DlparCpu(self.driver, done).start(now_us)

    def _write_qos_credits(self, amount: int, now_us: int, done: Applied) -> None:
        def stored(outcome: Reconfiguration | OsFailure, moment_us: int) -> None:
            result = outcome if isinstance(outcome, Reconfiguration) else Reconfiguration(failure=outcome)
            if result.failure is not None:
                result.failure = in_drmgr_words(result.failure)
            done(result, moment_us)

        self.files.write(UPDATE_TOTAL_CREDITS, f"{amount}", now_us, stored)

    def _write_stream_id(self, stream_id: int, now_us: int, done: Applied) -> None:
        def stored(outcome: Reconfiguration | OsFailure, moment_us: int) -> None:
            done(outcome if isinstance(outcome, Reconfiguration) else Reconfiguration(failure=outcome), moment_us)

        self.files.write(MIGRATION, f"{stream_id}", now_us, stored)


@dataclass(frozen=True, slots=True, eq=False)
class NewEntitlement:
    """The console's new entitlement waits for a write of lparcfg that is under way.

    The hypervisor refuses writes until this change is reported, so none can be carried out after it unnoticed.
    """

    drmgr: Drmgr
    hundredths: int
    done: Applied

    def granted(self, now_us: int) -> None:
        self.drmgr.lparcfg.hundredths = self.hundredths
        self.drmgr.lparcfg.turns.unlock(self, now_us)
        DlparCpu(self.drmgr.driver, self.done).start(now_us)


def in_drmgr_words(failure: OsFailure) -> OsFailure:
    """The failure with the message that drmgr prints for it."""
    if failure.reason is KernelReason.NO_FILE:
        message = f"Could not open {UPDATE_TOTAL_CREDITS} to write QoS credits"
    else:
        message = f"Could not write QoS credits: {failure.detail}"
    return failure.model_copy(update={"detail": message})
