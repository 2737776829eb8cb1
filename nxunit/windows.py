"""What the hypervisor asks of a unit's windows: contexts, their end, and the credits of faulted requests. Pure."""

from __future__ import annotations

from nxunit.context import Context, ContextTable
from nxunit.faults import HeldFault, HeldFaults
from nxunit.fifo import AcceptedPaste
from nxunit.job import TranslationFault
from nxunit.resume import SuspendedJobs
from nxunit.statistics import Counters
from protocol import fabric_messages as fabric
from protocol.dialer import Dialer
from protocol.session import Called

IN_FLIGHT_SHOWN = 0xFFFF
"""The most requests of a window that a message can tell of."""


class Windows:
    """The windows of a unit as the hypervisor and the engine change them."""

    def __init__(self, contexts: ContextTable, suspended: SuspendedJobs, counters: Counters, dialer: Dialer) -> None:
        self.contexts = contexts
        self.suspended = suspended
        self.counters = counters
        self.dialer = dialer
        self.effects = dialer.effects
        self.faults = HeldFaults(dialer)

    # Contexts.

    def program(self, event: Called, wanted: fabric.ProgramContext) -> None:
        """Create or replace a context, unless it has requests and would be changed; how many, is told."""
        accepted = self.contexts.program(wanted)
        context = self.contexts.find(wanted.window_id)
        in_flight = min(context.jobs, IN_FLIGHT_SHOWN) if context is not None else 0
        if not accepted:
            facts = {"in_flight": in_flight, "contexts": len(self.contexts), "limit": self.contexts.limit}
            self.effects.note("warning", "context_not_programmed", window=wanted.window_id, **facts)
        answer = fabric.ContextProgrammed(window_id=wanted.window_id, accepted=accepted, in_flight=in_flight)
        self.dialer.answer(event.session, event.number, answer)

    def close(self, event: Called, wanted: fabric.CloseContext) -> None:
        """Let a context drain; the answer comes when its last request is over."""
        context = self.contexts.find(wanted.window_id)
        if context is None:
            unknown = fabric.ContextClosed(window_id=wanted.window_id, bytes_processed=0)
            self.dialer.answer(event.session, event.number, unknown)
            return
        context.closing = True
        context.closers.append((event.session, event.number))
        if context.jobs:
            in_flight = min(context.jobs, IN_FLIGHT_SHOWN)
            self.dialer.send(event.session, fabric.ContextDraining(window_id=context.window_id, in_flight=in_flight))
        self.close_if_drained(context)

    def close_if_drained(self, context: Context) -> None:
        """With the last request of a closing context over it is gone, and everyone who asked for that is told."""
        if not context.closing or context.jobs:
            return
        self.contexts.remove(context)
        self.suspended.forget(context.key)
        answer = fabric.ContextClosed(window_id=context.window_id, bytes_processed=context.bytes_processed)
        for session, number in context.closers:
            self.dialer.answer(session, number, answer)

    # Translation faults.

    def stopped(self, paste: AcceptedPaste, fault: TranslationFault, now_us: int) -> None:
        """Hold a fault. A repeat, which runs without a window credit, takes one now: that bounds what is held."""
        context, crb = paste.context, paste.crb
        context.credits_taken += paste.recomputes
        context.faulted = paste.number == context.last_number
        self.suspended.hold(context.key, crb.resume)
        self.counters.translation_faults[fault.operand] += 1
        raised = fabric.FaultRaised(
            window_id=context.window_id,
            token=context.token,
            number=paste.number,
            function=crb.function,
            operand=fault.operand,
            fault_address=fault.address,
            csb_address=crb.csb_address,
        )
        facts = {"operand": str(fault.operand), "address": hex(fault.address)}
        self.effects.note("info", "translation_fault", lpar=context.lpar, window=context.window_id, **facts)
        self.faults.hold(HeldFault(context, raised, crb.resume), now_us)

    def return_credit(self, event: Called, wanted: fabric.ReturnCredit, now_us: int) -> None:
        """The kernel has fetched a fault; one that is not held (any more) has been returned before."""
        fault = self.faults.find(wanted.window_id, wanted.number)
        if fault is None:
            answer = fabric.CreditReturned(window_id=wanted.window_id, number=wanted.number)
            self.dialer.answer(event.session, event.number, answer)
            return
        fault.returns.append((event.session, event.number))
        if fault.call_number is None:
            self._end(fault, now_us)

    def fault_noted(self, call_number: int, now_us: int) -> None:
        """A request of ours was answered; if that was FaultRaised, a return that waited for it can be done."""
        fault = self.faults.answered(call_number, now_us)
        if fault is not None and fault.returns:
            self._end(fault, now_us)

    def _end(self, fault: HeldFault, now_us: int) -> None:
        """The faulted request is over: its window credit is free, and a closing window may be drained."""
        context = fault.context
        self.faults.drop(fault)
        self.suspended.release(context.key, fault.resume, now_us)
        context.jobs -= 1
        context.credits_taken -= 1
        answer = fabric.CreditReturned(window_id=context.window_id, number=fault.raised.number)
        for session, number in fault.returns:
            self.dialer.answer(session, number, answer)
        self.close_if_drained(context)
