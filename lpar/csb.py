"""Reporting a translation fault to its process: vas_update_csb. Source: domain.md 3."""

from __future__ import annotations

from lpar.device import SystemCalls
from lpar.driver import VasDriver
from lpar.fault_line import FaultLine
from lpar.process import Process
from lpar.signal import Signals
from lpar.statistics import NxFaultEnd
from protocol.codes import CompletionCode, CompletionExtension, Signal
from protocol.device_messages import UpdateCsb
from protocol.hcall_messages import NxFault
from protocol.listener import Listener
from protocol.paste_messages import CsbBody
from protocol.session import Answered
from protocol.session_messages import Refused

UPDATES_LIMIT = 1_024
"""Status blocks of one process on their way. A process that takes none is told of no more: no paste of its ends then,
except by its own deadline.
"""


def translation_fault(fault: NxFault) -> CsbBody:
    """The block that the kernel writes: CC 250, CE 0x40, count 0 and the address of the absent page."""
    return CsbBody(
        code=CompletionCode.TRANSLATION_FAULT,
        extension=int(CompletionExtension.TERMINATED),
        processed_bytes=0,
        target_bytes=0,
        crc32=0,
        adler32=1,
        fault_address=fault.fault_address,
    )


class StatusBlocks:
    """Writes status blocks into processes, or ends those whose block is mapped nowhere."""

    def __init__(self, listener: Listener, driver: VasDriver, calls: SystemCalls, signals: Signals) -> None:
        self.listener = listener
        self.driver = driver
        self.calls = calls
        self.signals = signals

    def update(self, line: FaultLine, fault: NxFault, now_us: int) -> NxFaultEnd:
        """vas_update_csb. The window may belong to a process that has exited or is exiting: nobody is told then.

        A block at address 0 cannot be written: SIGSEGV for the thread that opened the window, with si_addr 0.
        """
        process = self.calls.running(line.task.session)
        if process is None:
            return NxFaultEnd.NOBODY
        if fault.csb_address == 0:
            self.signals.raise_in(process, Signal.SIGSEGV, fault.csb_address, line, now_us)
            return NxFaultEnd.SIGNALLED
        if process.csb_updates >= UPDATES_LIMIT:
            self._complain("csb_update_dropped", process, line.window_id, f"{UPDATES_LIMIT} are not taken")
            return NxFaultEnd.DROPPED
        process.csb_updates += 1
        update = UpdateCsb(csb_address=fault.csb_address, csb=translation_fault(fault))
        self.listener.call(process.session, update, now_us)
        return NxFaultEnd.REPORTED

    def answered(self, event: Answered) -> None:
        """The process has taken a block, or said that it cannot."""
        process = self.calls.process_of(event.session)
        if process is None:
            return
        process.csb_updates -= 1
        if isinstance(event.reply, Refused):
            refusal = f"{event.reply.code}: expected {event.reply.expected}, came {event.reply.came}"
            self._complain("csb_update_refused", process, None, refusal)

    def _complain(self, event: str, process: Process, window_id: int | None, why: str) -> None:
        facts = {} if window_id is None else {"window": window_id}
        self.driver.note("warning", event, process=process.session.name, pid=process.pid, why=why, **facts)
