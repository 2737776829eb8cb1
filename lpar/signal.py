"""Signals that end a process of the partition. Source: domain.md 3, 7."""

from __future__ import annotations

from lpar.device import SystemCalls
from lpar.driver import VasDriver
from lpar.fault_line import FaultLine
from lpar.process import Process
from protocol.codes import Signal
from protocol.device_messages import RaiseSignal
from protocol.listener import Listener
from protocol.session import Answered, Closed, Ending


class Signals:
    """Delivers signals whose default action ends the process.

    At once its mappings and descriptors go, with the windows behind them, and every call of its answers ESRCH. Its
    session stays until it has taken the signal, or its connection is gone for the lease: the process has to learn why.
    """

    def __init__(self, listener: Listener, driver: VasDriver, calls: SystemCalls) -> None:
        self.listener = listener
        self.driver = driver
        self.calls = calls

    def raise_in(self, process: Process, signal: Signal, address: int, line: FaultLine, now_us: int) -> None:
        """Send the signal to the thread that opened the window, with the faulting address (si_addr)."""
        thread_id = line.task.thread_id
        self.driver.note(
            "error", "process_signalled", signal=signal.name, process=process.session.name, pid=process.pid,
            thread_id=thread_id, window=line.window_id, address=address,
        )  # fmt: skip
        self.driver.tally.killed += 1
        raised = RaiseSignal(signal=signal, address=address, thread_id=thread_id)
        self.listener.call(process.session, raised, now_us)
        self.calls.kill(process, now_us)

    def answered(self, event: Answered, now_us: int) -> None:
        """The process knows, or does not understand the message: either way it is over."""
        for closing in self.listener.close(event.session, Ending.KILLED):
            if isinstance(closing, Closed):
                self.calls.exited(closing.session, now_us)
