"""The hcalls, as the kernel meets them: allocate, modify, deallocate, query. Pure.

An hcall that needs an NX unit waits for it `hcall_patience_ms` and then answers long-busy: the kernel calls again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypervisor.capabilities import associativity, is_bad_buffer, nx_capabilities, vas_capabilities
from hypervisor.entitlement import MAX_WINDOW_CREDITS
from hypervisor.faults import Faults
from hypervisor.ledger import Ledger, Partition, Window, WindowPhase
from hypervisor.meters import HcallMeter
from hypervisor.paste_address import address_of, completion_interrupt, fault_interrupt, paste_address
from hypervisor.ppp import ProcessorParameters
from hypervisor.units import Units
from protocol.clock import MILLISECOND_US
from protocol.codes import (
    HYPERVISOR_CHOOSES,
    OUT_OF_REACH,
    CreditType,
    HcallCode,
    WindowStatus,
)  # fmt: skip
from protocol.effects import Effects
from protocol.hcall_messages import (
    HAllocateVasWindow,
    HcallStatus,
    HDeallocateVasWindow,
    HGetNxFault,
    HHomeNodeAssociativity,
    HModifyVasWindow,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    HQueryVasWindow,
    HSetPpp,
    NxFault,
    WindowAllocated,
    WindowState,
)  # fmt: skip
from protocol.listener import Listener
from protocol.message import Reply, Request
from protocol.session import Called, Session
from protocol.system import SystemSettings
from protocol.telemetry_messages import HcallMade

PROCESS_ID_MAX = THREAD_ID_MAX = 0xFFFF_FFFF
"""Both are 32 bits wide in hv_vas_win_lpar."""
TOKEN_BYTES = 16
FAULT_BUFFER_ALIGNMENT = 128

HCALL_REQUESTS = (
    HHomeNodeAssociativity, HAllocateVasWindow, HModifyVasWindow, HDeallocateVasWindow, HQueryVasWindow,
    HQueryVasCapabilities, HQueryNxCapabilities, HGetNxFault, HSetPpp,
)  # fmt: skip


@dataclass(slots=True)
class Waiting:
    """An hcall that waits for a window's NX unit."""

    call: Called
    arrived_us: int
    patience_us: int


@dataclass(slots=True)
class Hcalls:
    """Carries the hcalls out on the ledger and the units."""

    system: SystemSettings
    ledger: Ledger
    link: Listener
    effects: Effects
    entropy: Callable[[int], bytes]
    faults: Faults
    units: Units = field(init=False)
    processors: ProcessorParameters = field(init=False)
    allocation_limit: Callable[[Partition, CreditType], int] = field(init=False)
    waiting: dict[int, list[Waiting]] = field(default_factory=dict)
    meter: HcallMeter = field(default_factory=HcallMeter)

    def handle(self, call: Called, now_us: int) -> None:
        """Carry out one hcall and answer it, now or when its unit has."""
        partition = self.ledger.partitions[call.session.name]
        match call.body:
            case HAllocateVasWindow() as request:
                self._answer(call, self._allocate(call.session, partition, request, now_us), now_us)
            case HModifyVasWindow() as request:
                self._modify(call, request, now_us)
            case HDeallocateVasWindow() as request:
                self._deallocate(call, request, now_us)
            case HGetNxFault() as request:
                self._answer(call, self._get_nx_fault(call.session, request, now_us), now_us)
            case HQueryVasWindow() as request:
                self._answer(call, self._query_window(call.session, request), now_us)
            case HQueryVasCapabilities() as request:
                self._answer(call, vas_capabilities(self.ledger, partition, request), now_us)
            case HQueryNxCapabilities() as request:
                self._answer(call, nx_capabilities(self.system, request), now_us)
            case HSetPpp() as request:
                self._answer(call, self.processors.set(partition, request, now_us), now_us)
            case HHomeNodeAssociativity() as request:
                self._answer(call, associativity(partition, request), now_us)
            case _:
                raise AssertionError(f"{call.body.type} is no hcall")

    def tick(self, now_us: int) -> None:
        """Answer long-busy to hcalls whose unit takes too long."""
        for window_id, calls in list(self.waiting.items()):
            late = [waiting for waiting in calls if now_us >= waiting.patience_us]
            if late:
                self._release(window_id, late, HcallCode.H_LONG_BUSY_ORDER_10_MSEC, now_us)

    def wake_us(self) -> int | None:
        return min((waiting.patience_us for calls in self.waiting.values() for waiting in calls), default=None)

    def answer(self, call: Called, reply: Reply, now_us: int) -> None:
        """Answer an hcall that another part of the hypervisor has carried out."""
        self._answer(call, reply, now_us)

    # What the units report.

    def programmed(self, window: Window, code: HcallCode, now_us: int) -> None:
        """The window's context is as the kernel wants it, or `code` says why it is not."""
        self._release(window.window_id, self.waiting.get(window.window_id, []), code, now_us)

    def draining(self, window: Window, now_us: int) -> None:
        """The close of a window waits for requests in flight: whoever deallocates calls again."""
        calls = self.waiting.get(window.window_id, [])
        self._release(window.window_id, calls, HcallCode.H_LONG_BUSY_ORDER_1_MSEC, now_us)

    def closed(self, window: Window, now_us: int) -> None:
        """The window's context is certainly closed and drained."""
        self.faults.forget(window, now_us)
        calls = self.waiting.get(window.window_id, [])
        if calls or window.fenced:
            self.ledger.free(window, now_us)
            self._release(window.window_id, calls, HcallCode.H_SUCCESS, now_us)
        else:
            self.ledger.move(window, WindowPhase.QUIESCED)

    def fence(self, session: Session, now_us: int) -> int:
        """The partition's session is dead: close its windows and free each credit on confirmation."""
        windows = [window for window in self.ledger.windows.values() if window.lpar == session.name]
        for window in windows:
            if window.fenced or window.epoch > session.epoch:
                continue
            window.fenced = True
            self.waiting.pop(window.window_id, None)
            if window.has_no_context:
                self.ledger.free(window, now_us)
            else:
                self.faults.fence(window, now_us)
                self.ledger.move(window, WindowPhase.CLOSING)
                self.units.close(window, now_us)
        return len(windows)

    # The hcalls.

    def _allocate(
        self, session: Session, partition: Partition, request: HAllocateVasWindow, now_us: int
    ) -> WindowAllocated:
        if not self.system.accelerators:
            return WindowAllocated(code=HcallCode.H_COP_HW)
        if request.window_type not in (CreditType.QOS, CreditType.DEFAULT):
            return WindowAllocated(code=HcallCode.H_PARAMETER)
        if not 1 <= request.credits <= MAX_WINDOW_CREDITS:
            return WindowAllocated(code=HcallCode.H_P2)
        credit_type = CreditType(request.window_type)
        if self.ledger.in_use(partition.name, credit_type) >= self.allocation_limit(partition, credit_type):
            return WindowAllocated(code=HcallCode.H_RESOURCE)
        home_chip = None if request.domain[0] == HYPERVISOR_CHOOSES else request.domain[0]
        unit = self.units.place(home_chip)
        if unit is None:
            return WindowAllocated(code=HcallCode.H_CONSTRAINED)
        token = self.entropy(TOKEN_BYTES)
        window = self.ledger.reserve(partition.name, session.epoch, credit_type, unit.name, token, now_us)
        return WindowAllocated(
            code=HcallCode.H_SUCCESS,
            window_id=window.window_id,
            paste_address=paste_address(window, unit),
            completion_interrupt=completion_interrupt(window.window_id),
            fault_interrupt=fault_interrupt(window.window_id),
        )

    def _modify(self, call: Called, request: HModifyVasWindow, now_us: int) -> None:
        window = self._window_of(call.session, request.window_id)
        if window is None:
            self._answer(call, HcallStatus(code=HcallCode.H_PARAMETER), now_us)
        elif not 0 < request.process_id <= PROCESS_ID_MAX:
            self._answer(call, HcallStatus(code=HcallCode.H_P2), now_us)
        elif request.thread_id > THREAD_ID_MAX:
            self._answer(call, HcallStatus(code=HcallCode.H_P3), now_us)
        elif window.phase in (WindowPhase.CLOSING, WindowPhase.QUIESCED):
            self._answer(call, HcallStatus(code=HcallCode.H_BUSY), now_us)
        elif window.phase is not WindowPhase.OPEN and self.units.is_lost(window.unit):
            self._answer(call, HcallStatus(code=OUT_OF_REACH), now_us)
        else:
            window.process_id = request.process_id
            self.ledger.move(window, WindowPhase.PROGRAMMING)
            self._wait(call, window, now_us)
            self.units.program(window, now_us)

    def _deallocate(self, call: Called, request: HDeallocateVasWindow, now_us: int) -> None:
        window = self._window_of(call.session, request.window_id)
        if window is None:
            self._answer(call, HcallStatus(code=HcallCode.H_PARAMETER), now_us)
        elif window.has_no_context:
            self.ledger.free(window, now_us)
            self._answer(call, HcallStatus(code=HcallCode.H_SUCCESS), now_us)
        elif window.phase is WindowPhase.PROGRAMMING and window.window_id in self.waiting:
            self._answer(call, HcallStatus(code=HcallCode.H_BUSY), now_us)
        else:
            self._wait(call, window, now_us)
            if window.phase is not WindowPhase.CLOSING:
                self.ledger.move(window, WindowPhase.CLOSING)
            self.units.close(window, now_us)

    def _get_nx_fault(self, session: Session, request: HGetNxFault, now_us: int) -> NxFault:
        window = self._window_of(session, request.window_id)
        if window is None:
            return NxFault(code=HcallCode.H_PARAMETER)
        if is_bad_buffer(request.buffer_address, FAULT_BUFFER_ALIGNMENT):
            return NxFault(code=HcallCode.H_PRIVILEGE)
        return self.faults.fetch(window, now_us)

    def _query_window(self, session: Session, request: HQueryVasWindow) -> WindowState:
        window = self._window_of(session, request.window_id)
        if window is None:
            return WindowState(code=HcallCode.H_PARAMETER)
        return WindowState(
            code=HcallCode.H_SUCCESS,
            version=1,
            window_type=int(window.credit_type),
            status=self.status(window),
            credits=MAX_WINDOW_CREDITS,
            process_id=window.process_id,
            paste_address=address_of(window, self.units.by_name.get(window.unit)),
            completion_interrupt=completion_interrupt(window.window_id),
            fault_interrupt=fault_interrupt(window.window_id),
        )

    def status(self, window: Window) -> WindowStatus:
        """The window's state as H_QUERY_VAS_WINDOW and the console tell it."""
        unit = self.units.by_name.get(window.unit)
        if unit is None or not unit.reachable:
            return WindowStatus.HARDWARE_FAILURE
        if window.phase is WindowPhase.OPEN:
            return WindowStatus.ACTIVE
        if window.phase is WindowPhase.RESERVED and window.process_id:
            return WindowStatus.HARDWARE_FAILURE
        return WindowStatus.CLOSED if window.phase is WindowPhase.QUIESCED else WindowStatus.BUSY

    # Answers.

    def _window_of(self, session: Session, window_id: int) -> Window | None:
        """The caller's own window of its present incarnation; anybody else's does not exist for it."""
        window = self.ledger.windows.get(window_id)
        if window is None or window.lpar != session.name or window.epoch != session.epoch or window.fenced:
            return None
        return window

    def _wait(self, call: Called, window: Window, now_us: int) -> None:
        patience_us = now_us + self.system.times.hcall_patience_ms * MILLISECOND_US
        self.waiting.setdefault(window.window_id, []).append(Waiting(call, now_us, patience_us))

    def _release(self, window_id: int, released: list[Waiting], code: HcallCode, now_us: int) -> None:
        left = [waiting for waiting in self.waiting.pop(window_id, []) if waiting not in released]
        if left:
            self.waiting[window_id] = left
        for waiting in released:
            self._answer(waiting.call, HcallStatus(code=code), now_us, now_us - waiting.arrived_us)

    def _answer(self, call: Called, reply: Reply, now_us: int, waited_us: int = 0) -> None:
        code = getattr(reply, "code", HcallCode.H_SUCCESS)
        self.link.answer(call.session, call.number, reply)
        self.meter.count(call.body.type, code, waited_us)
        self.effects.publish(
            HcallMade(
                at_us=now_us,
                lpar=call.session.name,
                epoch=call.session.epoch,
                number=call.number,
                hcall=call.body.type,
                arguments=describe(call.body),
                code=code,
                window_id=getattr(reply, "window_id", 0) or getattr(call.body, "window_id", 0),
            )
        )


def describe(request: Request) -> str:
    """An hcall's arguments for people: `window_type=1 credits=1`."""
    shown = {name: value for name, value in request.__dict__.items() if name not in ("type", "domain", "amr")}
    return " ".join(f"{name}={value}" for name, value in shown.items())
