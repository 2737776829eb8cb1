"""Translation faults, from the unit that met an absent page to the kernel that fetches the request. Pure.

A fault is stored before its unit is told so. The partition gets the window's fault interrupt, again and again until
H_GET_NX_FAULT has fetched the fault; only then does the unit return the window credit. Source: domain.md 1.

The faults of a window that stays open outlive the loss of its context: the kernel, which may have taken the interrupt
already, fetches them and so wakes whoever waits for the request. They go with the window.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from hypervisor.fault import INTERRUPT_FIRST_US, Fault, FaultState
from hypervisor.ledger import Ledger, Window
from hypervisor.paste_address import fault_interrupt
from hypervisor.rows import Drop, FaultRow, Put, Row
from hypervisor.unit import Unit
from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.effects import Effects
from protocol.fabric_messages import FaultNoted, FaultRaised, ReturnCredit
from protocol.hcall_messages import FaultInterrupt, NxFault
from protocol.listener import Listener
from protocol.session import Session
from protocol.telemetry_messages import FaultMoved

INTERRUPT_MOST_US = 1 * SECOND_US
FAULTS_PER_WINDOW = 8
"""Kept of one window. It has one request in flight, so that older faults are left over from contexts that are gone."""
RETURNS_ON_WIRE = 64
RETURNS_LIMIT = 10_000
"""Credits that one unit is still to return; a unit that answers none is put off with its next fault."""
RETURNS_FULL_RETRY_MS = 100


@dataclass(slots=True)
class Faults:
    """All faults by window and number. `interrupts`: a heap of when to interrupt again, with outdated entries."""

    ledger: Ledger
    link: Listener
    fabric: Listener
    effects: Effects
    units: dict[str, Unit] = field(default_factory=dict)
    by_window: defaultdict[int, dict[int, Fault]] = field(default_factory=lambda: defaultdict(dict))
    interrupts: list[tuple[int, int, int]] = field(default_factory=list)

    def restore(self, rows: list[Row]) -> None:
        """Take over what an earlier process stored. Interrupts begin anew when the partitions are heard."""
        for row in rows:
            if isinstance(row, FaultRow):
                fault = Fault.from_row(row)
                if fault.window_id in self.ledger.windows:
                    self.by_window[fault.window_id][fault.number] = fault
                else:
                    self.effects.writes.append(Drop(FaultRow, fault.key))

    # What the units say.

    def raised(self, unit: Unit, session: Session, request: int, told: FaultRaised, now_us: int) -> None:
        """A unit has a fault. It may be known: every new session of the unit tells all that it holds again."""
        if len(unit.returns) >= RETURNS_LIMIT:
            self.fabric.retry(session, request, RETURNS_FULL_RETRY_MS)
            return
        window = self.ledger.windows.get(told.window_id)
        if window is None or window.token != told.token or window.unit != unit.name or window.has_no_context:
            self._return_credit(unit, told.window_id, told.number, now_us)
        elif window.fenced:
            fault = Fault.from_unit(told)
            self._publish(fault, "raised", now_us)
            self._publish(fault, "dropped", now_us)
            self._return_credit(unit, told.window_id, told.number, now_us)
        elif told.number <= self._fetched_number(told.window_id):
            self._return_credit(unit, told.window_id, told.number, now_us)
        elif told.number not in self.by_window[told.window_id]:
            self._keep(Fault.from_unit(told), now_us)
        self.fabric.answer(session, request, FaultNoted())

    def unit_opened(self, unit: Unit, now_us: int) -> None:
        """A new session: what the old one had asked is lost."""
        unit.returns.clear()
        unit.returning = 0
        for fault in list(self._all()):
            if fault.state is FaultState.FETCHED and self.ledger.windows[fault.window_id].unit == unit.name:
                self._return_credit(unit, fault.window_id, fault.number, now_us)

    def returned(self, unit: Unit, request: ReturnCredit, now_us: int) -> None:
        """The unit has returned a window credit."""
        unit.returning -= 1
        fault = self.by_window.get(request.window_id, {}).get(request.number)
        if fault is not None and fault.state is FaultState.FETCHED:
            self._settle(fault, now_us)
        self._send_returns(unit, now_us)

    # What the kernel does.

    def fetch(self, window: Window, now_us: int) -> NxFault:
        """H_GET_NX_FAULT: the oldest fault of the window that waits; its window credit is given back."""
        waiting = [fault for fault in self._of(window) if fault.state is FaultState.WAITING]
        if not waiting:
            return NxFault(code=HcallCode.H_STATE)
        fault = min(waiting, key=lambda waiting: waiting.number)
        for settled in [earlier for earlier in self._of(window) if earlier.state is FaultState.SETTLED]:
            self._remove(settled)
        fault.state = FaultState.FETCHED
        self.effects.writes.append(Put(fault.row()))
        self._publish(fault, "fetched", now_us)
        self._return_credit(self.units.get(window.unit), fault.window_id, fault.number, now_us)
        return NxFault(
            code=HcallCode.H_SUCCESS,
            window_id=fault.window_id,
            number=fault.number,
            function=fault.function,
            fault_address=fault.fault_address,
            csb_address=fault.csb_address,
        )

    def partition_returned(self, lpar: str, now_us: int) -> None:
        """The partition is heard again: it may have missed interrupts."""
        for fault in list(self._all()):
            if fault.state is FaultState.WAITING and self.ledger.windows[fault.window_id].lpar == lpar:
                fault.repeat_us = INTERRUPT_FIRST_US
                self._interrupt(fault, now_us)

    # What becomes of the windows.

    def fence(self, window: Window, now_us: int) -> None:
        """Nobody will fetch the window's faults any more: the unit gets its word, so that the window drains."""
        for fault in self._of(window):
            if fault.state is FaultState.WAITING:
                self._return_credit(self.units.get(window.unit), fault.window_id, fault.number, now_us)
        self.forget(window, now_us)

    def forget(self, window: Window, now_us: int) -> None:
        """The window's context is closed: nothing is held for its faults."""
        for fault in self._of(window):
            if fault.state is not FaultState.SETTLED:
                self._publish(fault, "dropped", now_us)
            self._remove(fault)
        self.by_window.pop(window.window_id, None)

    # Time.

    def tick(self, now_us: int) -> None:
        """Interrupt for what has not been fetched."""
        while self.interrupts and self.interrupts[0][0] <= now_us:
            due_us, window_id, number = heappop(self.interrupts)
            fault = self._interrupting(due_us, window_id, number)
            if fault is not None:
                self._interrupt(fault, now_us)

    def wake_us(self) -> int | None:
        while self.interrupts and self._interrupting(*self.interrupts[0]) is None:
            heappop(self.interrupts)
        return self.interrupts[0][0] if self.interrupts else None

    def states(self) -> Counter[FaultState]:
        """How many faults are in each state."""
        return Counter(fault.state for fault in self._all())

    # Steps.

    def _all(self) -> Iterator[Fault]:
        return (fault for faults in self.by_window.values() for fault in faults.values())

    def _of(self, window: Window) -> list[Fault]:
        return list(self.by_window.get(window.window_id, {}).values())

    def _fetched_number(self, window_id: int) -> int:
        """The highest number that the kernel has fetched; numbers rise per window. -1: none yet."""
        faults = self.by_window.get(window_id, {}).values()
        return max((fault.number for fault in faults if fault.state is not FaultState.WAITING), default=-1)

    def _keep(self, fault: Fault, now_us: int) -> None:
        faults = self.by_window[fault.window_id]
        if len(faults) >= FAULTS_PER_WINDOW:
            oldest = faults[min(faults)]
            self.effects.note("warning", "fault_dropped", window=oldest.window_id, number=oldest.number)
            self._publish(oldest, "dropped", now_us)
            self._remove(oldest)
        faults[fault.number] = fault
        self.effects.writes.append(Put(fault.row()))
        self._publish(fault, "raised", now_us)
        self._interrupt(fault, now_us)

    def _settle(self, fault: Fault, now_us: int) -> None:
        self._publish(fault, "settled", now_us)
        if fault.number < self._fetched_number(fault.window_id):
            self._remove(fault)
        else:
            fault.state = FaultState.SETTLED
            self.effects.writes.append(Put(fault.row()))

    def _remove(self, fault: Fault) -> None:
        del self.by_window[fault.window_id][fault.number]
        self.effects.writes.append(Drop(FaultRow, fault.key))

    def _interrupt(self, fault: Fault, now_us: int) -> None:
        session = self.link.sessions.get(self.ledger.windows[fault.window_id].lpar)
        if session is not None:
            interrupt = fault_interrupt(fault.window_id)
            notice = FaultInterrupt(window_id=fault.window_id, interrupt=interrupt, number=fault.number)
            self.link.notify(session, notice)
        fault.due_us = now_us + fault.repeat_us
        heappush(self.interrupts, (fault.due_us, fault.window_id, fault.number))
        fault.repeat_us = min(2 * fault.repeat_us, INTERRUPT_MOST_US)

    def _interrupting(self, due_us: int, window_id: int, number: int) -> Fault | None:
        """The fault of an entry of the heap, unless it has been fetched or scheduled anew."""
        fault = self.by_window.get(window_id, {}).get(number)
        valid = fault is not None and fault.state is FaultState.WAITING and fault.due_us == due_us
        return fault if valid else None

    def _return_credit(self, unit: Unit | None, window_id: int, number: int, now_us: int) -> None:
        """Have the unit end a faulted request. One without a session tells its faults again when it has one."""
        if unit is not None and unit.session is not None:
            unit.returns.append(ReturnCredit(window_id=window_id, number=number))
            self._send_returns(unit, now_us)

    def _send_returns(self, unit: Unit, now_us: int) -> None:
        while unit.session is not None and unit.returns and unit.returning < RETURNS_ON_WIRE:
            unit.returning += 1
            self.fabric.call(unit.session, unit.returns.popleft(), now_us)

    def _publish(self, fault: Fault, step: str, now_us: int) -> None:
        self.effects.publish(
            FaultMoved(
                at_us=now_us,
                lpar=self.ledger.windows[fault.window_id].lpar,
                window_id=fault.window_id,
                number=fault.number,
                operand=fault.operand,
                fault_address=fault.fault_address,
                step=step,
            )
        )
