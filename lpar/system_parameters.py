"""Writing lparcfg: the partition asks the hypervisor for another entitlement. Source: domain.md 5.6."""

from __future__ import annotations

from enum import Enum, auto

from lpar.driver import Operation, VasDriver
from lpar.drmgr import DlparCpu
from lpar.failure import os_failure
from lpar.hcall import HcallReturn
from lpar.lparcfg import ENTITLED_CAPACITY, Lparcfg, Parameter, failure_of, parse
from lpar.sysfs import Stored
from lpar.walk import Reconfiguration
from protocol.codes import HcallCode, KernelReason
from protocol.device_messages import OsFailure
from protocol.hcall_messages import HSetPpp

WEIGHT_MASK = 0xFF
"""The weight is one byte: Linux casts it."""


class SystemParameters:
    """lparcfg_write: one H_SET_PPP; after a new capacity, the driver fits its windows to the new default credits."""

    def __init__(self, driver: VasDriver, lparcfg: Lparcfg) -> None:
        self.driver = driver
        self.lparcfg = lparcfg

    def write(self, text: str, now_us: int, stored: Stored) -> None:
        """Carry a write out; `stored` is called once."""
        parameter = parse(text)
        if isinstance(parameter, OsFailure):
            stored(parameter, now_us)
        else:
            SetParameter(self.driver, self.lparcfg, parameter, stored).start(now_us)


class SetParameterStage(Enum):
    """What a write to lparcfg waits for."""

    TURN = auto()
    SET_PPP = auto()
    DLPAR = auto()


class SetParameter(Operation):
    """update_ppp, then pseries_vas_dlpar_cpu where the entitled capacity was set. H_SET_PPP is not repeated if busy."""

    def __init__(self, driver: VasDriver, lparcfg: Lparcfg, parameter: Parameter, stored: Stored) -> None:
        super().__init__(driver)
        self.lparcfg = lparcfg
        self.parameter = parameter
        self._stored = stored

    @property
    def _sets_capacity(self) -> bool:
        return self.parameter.name == ENTITLED_CAPACITY

    def start(self, now_us: int) -> None:
        self.begin()
        self.stage = SetParameterStage.TURN
        self.lparcfg.turns.lock(self, now_us)

    def granted(self, now_us: int) -> None:
        if self._sets_capacity:
            request = HSetPpp(entitled_capacity=self.parameter.value)
        else:
            weight = self.parameter.value & WEIGHT_MASK
            request = HSetPpp(entitled_capacity=self.lparcfg.hundredths, weight=weight)
        self.hcall(SetParameterStage.SET_PPP, request, now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        if answer.succeeded and self._sets_capacity:
            self.lparcfg.written(self.parameter.value)
        self.stage = SetParameterStage.DLPAR
        if answer.code not in (HcallCode.H_SUCCESS, HcallCode.H_CONSTRAINED):
            self._end(failure_of(answer), now_us)
        elif not self._sets_capacity:
            self._end(Reconfiguration(), now_us)
        else:
            DlparCpu(self.driver, self._reconfigured).start(now_us)
        self.lparcfg.turns.unlock(self, now_us)

    def _reconfigured(self, result: Reconfiguration, now_us: int) -> None:
        self.driver.note(
            "info" if result.failure is None else "error",
            "entitlement_set",
            hundredths=self.lparcfg.hundredths,
            closed=len(result.closed),
            reopened=len(result.reopened),
            why="" if result.failure is None else result.failure.detail,
        )
        self._end(result if result.failure is None else not_applied(result.failure), now_us)

    def _end(self, outcome: Reconfiguration | OsFailure, now_us: int) -> None:
        self._stored(outcome, now_us)
        self.end()


def not_applied(failure: OsFailure) -> OsFailure:
    """The entitlement stands and the windows could not be fitted to it: EIO, where a write of QoS credits is EINVAL."""
    return os_failure(KernelReason.HCALL_FAILED, failure.detail, failure.hcall)
