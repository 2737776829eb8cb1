"""What the hypervisor asks of the NX units, and what it takes as an answer. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hypervisor.ledger import Ledger, Window, WindowPhase
from hypervisor.unit import ContextRequest, Unit, context_wanted
from protocol.effects import Effects
from protocol.fabric_answers import contradiction
from protocol.fabric_messages import CloseContext, ContextSummary, ListContexts, ProgramContext
from protocol.listener import Listener
from protocol.message import Reply, Request
from protocol.session_messages import Refused


@dataclass(slots=True)
class UnitCalls:
    """One program or close per window and unit at a time.

    An answer that does not fit what was asked changes nothing. What was asked counts as unanswered, so that its window
    is asked nothing else, and it is asked again after a while.
    """

    ledger: Ledger
    fabric: Listener
    effects: Effects

    def window(self, window_id: int, unit: Unit) -> Window | None:
        """The window of this id, if it is one of this unit."""
        window = self.ledger.windows.get(window_id)
        return window if window and window.unit == unit.name else None

    def pursue(self, unit: Unit, window: Window, now_us: int) -> None:
        """Ask the unit for what the window needs next, unless it has not answered the last request."""
        if window.phase is WindowPhase.CLOSING:
            self.context(unit, CloseContext(window_id=window.window_id), now_us)
        elif window.phase in (WindowPhase.PROGRAMMING, WindowPhase.OPEN):
            self.context(unit, context_wanted(window), now_us)

    def context(self, unit: Unit, request: ContextRequest, now_us: int) -> None:
        """Ask the unit to program or close a context, unless it has not answered the last request for it."""
        if unit.session is not None and unit.ready and request.window_id not in unit.in_flight:
            unit.in_flight[request.window_id] = request
            self.fabric.call(unit.session, request, now_us)

    def contexts(self, unit: Unit, above: int, now_us: int) -> None:
        """Ask which contexts with ids above this the unit has."""
        if unit.session is not None:
            self.fabric.call(unit.session, ListContexts(above=above), now_us)

    def settle(self, unit: Unit, request: Request, reply: Reply | Refused, now_us: int) -> bool:
        """Whether the unit has answered what it was asked."""
        why = contradiction(request, reply)
        if why:
            self.doubt(unit, request, why, now_us)
        elif isinstance(request, ProgramContext | CloseContext):
            unit.in_flight.pop(request.window_id, None)
        return not why

    def doubt(self, unit: Unit, request: Request, why: str, now_us: int) -> None:
        """Take an answer for none, and ask again after a while."""
        unit.doubted.put_off(request, now_us)
        self.effects.note("error", "answer_contradicts", unit=unit.name, request=request.type, why=why[:200])

    def ask_again(self, unit: Unit, now_us: int) -> None:
        """Ask anew what was answered wrongly a while ago."""
        if unit.session is None:
            return
        for request in unit.doubted.due(now_us):
            if isinstance(request, ProgramContext | CloseContext):
                del unit.in_flight[request.window_id]
                self._context_again(unit, request, now_us)
            else:
                self.fabric.call(unit.session, request, now_us)

    def _context_again(self, unit: Unit, request: ContextRequest, now_us: int) -> None:
        """A context that was to be closed is still to be; what is to be programmed may have changed meanwhile."""
        window = self.window(request.window_id, unit)
        if window is not None and isinstance(request, ProgramContext):
            self.pursue(unit, window, now_us)
        else:
            self.context(unit, CloseContext(window_id=request.window_id), now_us)

    def reconcile(self, unit: Unit, held: dict[int, ContextSummary], now_us: int) -> None:
        """Close what the ledger does not know or is closing, program what the unit lacks."""
        for window_id, context in held.items():
            window = self.window(window_id, unit)
            wanted = window is not None and window.phase in (WindowPhase.OPEN, WindowPhase.PROGRAMMING)
            if not wanted or window is None or window.token != context.token:
                self.context(unit, CloseContext(window_id=window_id), now_us)
        for window in [window for window in self.ledger.windows.values() if window.unit == unit.name]:
            self._compare(unit, window, held.get(window.window_id), now_us)
        unit.reconciled = True
        self.effects.note("info", "unit_reconciled", unit=unit.name, contexts=len(held))

    def _compare(self, unit: Unit, window: Window, context: ContextSummary | None, now_us: int) -> None:
        """One window of the ledger beside what its unit holds of it."""
        same = context is not None and context.token == window.token
        window.bound_to = context.process_id if context is not None and same else 0
        if window.phase is WindowPhase.OPEN and window.bound_to == window.process_id:
            return
        self.pursue(unit, window, now_us)
