"""The NX units as the hypervisor knows them: their sessions, their contexts, and what a lost one still holds. Pure.

A context is programmed before a window is open and confirmed closed before its credit is free. A window has at most one
program or close at its unit: a repeat of an earlier one that was lost could overtake a later one. `ReturnCredit` may
run beside either. It ends one paste, named by its number, and touches nothing else of the context: before a close it
leaves less to drain, during one it is what the close waits for, and after one it finds no such fault. Ids of windows
are not used again, and a number that was fetched once stays fetched, so that a late repeat meets no other paste.

A unit that cannot be reached has certainly refused every paste once its fence has run out: it counts from the send
time of its last echoed beat, we from the receipt of its last message, which is later. The same holds for a process
that was replaced by another of its name, unless that one proves that it is gone (holders.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hypervisor.faults import Faults
from hypervisor.holders import Holders, guards_of
from hypervisor.ledger import Ledger, Window, WindowPhase
from hypervisor.rows import Row
from hypervisor.unit import CONTEXTS_MOST, Unit
from hypervisor.unit_calls import UnitCalls
from protocol.clock import MILLISECOND_US, earliest
from protocol.codes import OUT_OF_REACH, HcallCode
from protocol.effects import Effects
from protocol.fabric_messages import (
    CloseContext,
    ContextDraining,
    ContextProgrammed,
    Contexts,
    FaultRaised,
    ListContexts,
    ProgramContext,
    ReturnCredit,
    UnitNoted,
    UnitReady,
)  # fmt: skip
from protocol.listener import Listener
from protocol.session import Answered, Called, Closed, Ending, Event, Moved, Noticed, Opened, Session
from protocol.system import SystemSettings
from protocol.telemetry_messages import PeerMoved


@dataclass(slots=True)
class Units:
    """All units. `programmed`, `closed` and `draining` tell the hcalls that wait for a window."""

    system: SystemSettings
    ledger: Ledger
    fabric: Listener
    effects: Effects
    faults: Faults
    programmed: Callable[[Window, HcallCode, int], None]
    closed: Callable[[Window, int], None]
    draining: Callable[[Window, int], None]
    by_name: dict[str, Unit] = field(default_factory=dict)
    calls: UnitCalls = field(init=False)

    def __post_init__(self) -> None:
        self.calls = UnitCalls(self.ledger, self.fabric, self.effects)

    def start(self, rows: list[Row], now_us: int) -> None:
        """Nobody knows what the units hold: each is quiet at the latest one fence from now."""
        quiet_us = now_us + self.fence_us
        for chip in self.system.chip:
            holders = Holders(chip.unit, self.effects)
            holders.restore(guards_of(rows, chip.unit), quiet_us)
            self.by_name[chip.unit] = Unit(chip, holders, quiet_us=quiet_us)

    @property
    def fence_us(self) -> int:
        """How long after the last word of a unit it is certainly quiet."""
        times = self.system.times
        return (times.fence_ms + times.drift_margin_ms) * MILLISECOND_US

    def is_settled(self, name: str) -> bool:
        """Whether it is known what the unit holds: reconciled, or quiet by its fence."""
        unit = self.by_name.get(name)
        return unit is None or (unit.ready and unit.reconciled) or (unit.session is None and unit.quiet_us is None)

    def is_lost(self, name: str) -> bool:
        """Whether the unit is taken for dead or hung: nothing is begun there until it is heard again."""
        unit = self.by_name.get(name)
        return unit is None or unit.session is None or unit.session.suspected

    def place(self, home_chip: int | None) -> Unit | None:
        """The unit for a new window: the home chip's where one is asked for, else the emptiest, ties by number."""
        units = self.by_name.values()
        fit = [unit for unit in units if unit.usable and self.ledger.on_unit(unit.name) < unit.window_limit]
        fit.sort(key=lambda unit: (unit.chip.number != home_chip, self.ledger.on_unit(unit.name), unit.chip.number))
        return fit[0] if fit else None

    def program(self, window: Window, now_us: int) -> None:
        """Have the window's context made as it is wanted; `programmed` is called when the unit has answered."""
        self._pursue(window, now_us)

    def close(self, window: Window, now_us: int) -> None:
        """Have the window's context closed and drained; `closed` is called when that is certain."""
        unit = self.by_name.get(window.unit)
        if unit is None or (unit.session is None and unit.quiet_us is None):
            self.closed(window, now_us)
        elif window.window_id not in unit.confirmed:
            self._pursue(window, now_us)

    def handle(self, event: Event, now_us: int) -> None:
        """What happened on the fabric link."""
        match event:
            case Opened(session):
                self._opened(session, now_us)
            case Moved(session, step):
                self._moved(session, step, now_us)
            case Closed(session, ending):
                self._closed(session, ending, now_us)
            case Called(session, number, UnitReady() as ready):
                self._ready(session, number, ready, now_us)
            case Called(session, number, FaultRaised() as fault):
                self.faults.raised(self.by_name[session.name], session, number, fault, now_us)
            case Answered(session) if self.by_name[session.name].session is session:
                self._answered(self.by_name[session.name], event, now_us)
            case Noticed(session, ContextDraining(window_id=window_id)):
                window = self._window(window_id, self.by_name[session.name])
                if window is not None and window.phase is WindowPhase.CLOSING:
                    self.draining(window, now_us)
            case _:
                pass

    def _answered(self, unit: Unit, event: Answered, now_us: int) -> None:
        if not self.calls.settle(unit, event.request, event.reply, now_us):
            return
        match event.request, event.reply:
            case ProgramContext() as request, ContextProgrammed() as reply:
                self._programmed(unit, request, reply, now_us)
            case CloseContext(window_id=window_id), _:
                self._context_closed(unit, window_id, now_us)
            case ListContexts(above=above), Contexts() as page:
                self._listed(unit, above, page, now_us)
            case ReturnCredit() as request, _:
                self.faults.returned(unit, request, now_us)

    def tick(self, now_us: int) -> None:
        """Act on units that are certainly quiet by now."""
        for unit in self.by_name.values():
            self.calls.ask_again(unit, now_us)
            if unit.session is None and unit.quiet_us is not None and now_us >= unit.quiet_us:
                unit.quiet_us = None
                windows = self.ledger.on_unit(unit.name)
                if unit.holders.expire(now_us) or (windows and not unit.said_bye):
                    self.effects.note("warning", "unit_counts_as_quiet", unit=unit.name, windows=windows)
                self._gone(unit, self.ledger.windows.keys(), now_us)
            elif unit.session is not None and unit.holders.expire(now_us) and unit.holders.quiet_us is None:
                self.effects.note("warning", "earlier_unit_fenced", unit=unit.name, windows=len(unit.confirmed))
                confirmed, unit.confirmed = unit.confirmed, set()
                self._gone(unit, confirmed, now_us)

    def wake_us(self) -> int | None:
        units = self.by_name.values()
        quiet = (unit.quiet_us if unit.session is None else unit.holders.quiet_us for unit in units)
        return earliest(*quiet, *(unit.doubted.wake_us() for unit in units))

    def _window(self, window_id: int, unit: Unit) -> Window | None:
        return self.calls.window(window_id, unit)

    def _pursue(self, window: Window, now_us: int) -> None:
        unit = self.by_name.get(window.unit)
        if unit is not None:
            self.calls.pursue(unit, window, now_us)

    def _opened(self, session: Session, now_us: int) -> None:
        unit = self.by_name[session.name]
        unit.session, unit.endpoints = session, dict(session.endpoints)
        unit.ready = unit.reconciled = False
        unit.quiet_us = None
        unit.known_below = self.ledger.next_window_id
        unit.listed.clear()
        self.faults.unit_opened(unit, now_us)
        self._publish(session, "opened", now_us)

    def _moved(self, session: Session, step: str, now_us: int) -> None:
        self._publish(session, step, now_us)
        if step == "suspected":
            self._cannot_program(self.by_name[session.name], now_us)
        self.effects.note("warning" if step == "suspected" else "info", f"unit_{step}", unit=session.name)

    def _closed(self, session: Session, ending: Ending, now_us: int) -> None:
        unit = self.by_name[session.name]
        self._publish(session, "closed", now_us)
        self.effects.note("warning", "unit_lost", unit=session.name, ending=str(ending))
        if unit.session is not session:
            return
        if ending is not Ending.REPLACED:
            self._cannot_program(unit, now_us)
        unit.session = None
        unit.ready = unit.reconciled = False
        unit.in_flight.clear()
        unit.doubted.clear()
        unit.confirmed.clear()
        unit.said_bye = ending is Ending.BYE
        quiet_us = now_us if unit.said_bye else session.heard_us + self.fence_us
        unit.holders.lost(quiet_us)
        if unit.said_bye:
            unit.holders.expire(now_us)
        unit.quiet_us = max(quiet_us, unit.holders.quiet_us or 0)

    def _cannot_program(self, unit: Unit, now_us: int) -> None:
        """Whoever waits for a window there is told.

        The window stays as it is: the unit may have its context, or make it when it is back.
        """
        for window in list(self.ledger.windows.values()):
            if window.unit == unit.name and window.phase is WindowPhase.PROGRAMMING:
                self.programmed(window, OUT_OF_REACH, now_us)

    def _ready(self, session: Session, number: int, ready: UnitReady, now_us: int) -> None:
        """Nothing is asked of a unit before it has named its guard: until then it is not known who else may act."""
        unit = self.by_name[session.name]
        unit.window_limit = min(ready.window_limit, self.system.limits.windows_per_unit)
        unit.context_limit = min(ready.window_limit, CONTEXTS_MOST)
        if not unit.ready:
            unit.holders.named(ready.guard, session.epoch)
            unit.holders.expire(now_us)
            unit.ready = True
            self.calls.contexts(unit, 0, now_us)
        self.fabric.answer(session, number, UnitNoted())

    def _programmed(self, unit: Unit, request: ProgramContext, reply: ContextProgrammed, now_us: int) -> None:
        """H_STATE for who modifies a window with requests in flight, also where nothing would have been changed."""
        window = self._window(request.window_id, unit)
        if window is None:
            self.calls.context(unit, CloseContext(window_id=request.window_id), now_us)
            return
        if reply.accepted:
            window.bound_to = request.process_id
        if window.phase is WindowPhase.CLOSING or window.process_id != request.process_id:
            self._pursue(window, now_us)
        elif reply.accepted:
            code = HcallCode.H_STATE if reply.in_flight else HcallCode.H_SUCCESS
            self._bound(window, WindowPhase.OPEN, code, now_us)
        elif reply.in_flight and window.bound_to:
            window.process_id = window.bound_to
            self._bound(window, WindowPhase.OPEN, HcallCode.H_STATE, now_us)
        else:
            self.effects.note("warning", "unit_has_no_room", unit=unit.name, window=window.window_id)
            self._bound(window, WindowPhase.RESERVED, HcallCode.H_HARDWARE, now_us)

    def _bound(self, window: Window, phase: WindowPhase, code: HcallCode, now_us: int) -> None:
        if window.phase is not phase:
            self.ledger.move(window, phase)
        self.programmed(window, code, now_us)

    def _context_closed(self, unit: Unit, window_id: int, now_us: int) -> None:
        window = self._window(window_id, unit)
        if window is None:
            return
        window.bound_to = 0
        if window.phase is WindowPhase.CLOSING:
            self._confirm(unit, window, now_us)
        else:
            self._pursue(window, now_us)

    def _confirm(self, unit: Unit, window: Window, now_us: int) -> None:
        """The unit has no context of the window; an earlier process of it may, until that is certainly quiet."""
        if unit.holders.quiet_us is not None and window.window_id < unit.known_below:
            unit.confirmed.add(window.window_id)
        else:
            self.closed(window, now_us)

    def _gone(self, unit: Unit, window_ids: Iterable[int], now_us: int) -> None:
        """Nobody who acts or acted as the unit has contexts of these windows."""
        for window_id in sorted(window_ids):
            window = self._window(window_id, unit)
            if window is not None and window.phase is WindowPhase.CLOSING:
                self.closed(window, now_us)

    def _listed(self, unit: Unit, above: int, page: Contexts, now_us: int) -> None:
        """A page of the unit's contexts; after the last one they are reconciled with the ledger."""
        unit.listed |= {context.window_id: context for context in page.contexts}
        last = max((context.window_id for context in page.contexts), default=0)
        if len(unit.listed) > unit.context_limit:
            unit.listed.clear()
            self.calls.doubt(
                unit, ListContexts(above=0), f"more contexts than the {unit.context_limit} it can hold", now_us
            )
        elif page.more and last > above and unit.session is not None:
            self.calls.contexts(unit, last, now_us)
        else:
            held, unit.listed = unit.listed, {}
            self.calls.reconcile(unit, held, now_us)

    def _publish(self, session: Session, step: str, now_us: int) -> None:
        self.effects.publish(
            PeerMoved(at_us=now_us, role=session.role, name=session.name, epoch=session.epoch, step=step)
        )
