"""Translation faults of the accelerator: pseries_vas_irq_handler and its thread. Source: domain.md 1, 5.8.

A request that met an absent page waits in the hypervisor, and its window credit stays taken, until the kernel fetches
it with H_GET_NX_FAULT. One interrupt announces one fault. The handler never takes the driver's mutex: a deallocation
that holds it stays busy until the fault is fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from lpar.driver import Operation, VasDriver
from lpar.fault_line import FaultLine
from lpar.hcall import HcallReturn
from lpar.statistics import NxFaultEnd
from protocol.hcall_messages import FaultInterrupt, HGetNxFault, NxFault

CRB_BYTES = 128
CRB_AREA_ADDRESS = 0x8000_0000
"""Real addresses of the handlers' request blocks, one for each window; H_GET_NX_FAULT takes only whole blocks."""

Report = Callable[[FaultLine, NxFault, int], NxFaultEnd]
"""vas_update_csb: tell the process that opened the window."""


class FaultStage(Enum):
    """What a handler waits for."""

    FETCH = auto()
    FINISHED = auto()


class FaultHandler(Operation):
    """pseries_vas_fault_thread_fn: fetches faults of one window until none is pending.

    A fault that is announced meanwhile is counted and fetched by the same run. An hcall that fails is logged and its
    fault skipped, as in Linux. There the window credit is lost then; here the hypervisor repeats an interrupt until its
    fault is fetched, which brings the handler back.
    """

    def __init__(self, driver: VasDriver, line: FaultLine, report: Report) -> None:
        super().__init__(driver)
        self.line = line
        self._report = report

    def start(self, now_us: int) -> None:
        self.begin()
        self.line.handling = True
        self._fetch(now_us)

    def _fetch(self, now_us: int) -> None:
        window_id = self.line.window_id
        request = HGetNxFault(window_id=window_id, buffer_address=CRB_AREA_ADDRESS + CRB_BYTES * window_id)
        self.hcall(FaultStage.FETCH, request, now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        fault = answer.reply if isinstance(answer.reply, NxFault) else None
        if not answer.succeeded or fault is None:
            self._skip(answer.words)
        elif fault.window_id != self.line.window_id:
            self._skip(f"{answer.hcall.name}: a fault of window {fault.window_id}")
        elif self.line.took(fault.number):
            self.driver.tally.nx_faults[self._report(self.line, fault, now_us)] += 1
        if self.line.pending_faults:
            self._fetch(now_us)
            return
        self.stage = FaultStage.FINISHED
        self.line.handling = False
        self.end()

    def _skip(self, why: str) -> None:
        self.driver.tally.nx_faults[NxFaultEnd.NOT_FETCHED] += 1
        number = next(iter(self.line.told), None)
        self.driver.note("error", "nx_fault_not_fetched", window=self.line.window_id, number=number, why=why)
        self.line.skip()


class NxFaults:
    """Where fault interrupts come in. One of an unknown window is late: that window is gone with all its faults."""

    def __init__(self, driver: VasDriver, report: Report) -> None:
        self.driver = driver
        self._report = report

    def interrupted(self, notice: FaultInterrupt, now_us: int) -> None:
        """pseries_vas_irq_handler: count the fault, and wake the handler unless it runs."""
        line = self.driver.fault_lines.find(notice.window_id)
        if line is not None and line.interrupted(notice.number) and not line.handling:
            FaultHandler(self.driver, line, self._report).start(now_us)
