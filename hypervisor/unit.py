"""One NX unit as the hypervisor knows it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from hypervisor.entitlement import MAX_WINDOW_CREDITS
from hypervisor.holders import Holders
from hypervisor.ledger import Window
from protocol.asked_again import AskedAgain
from protocol.fabric_messages import CloseContext, ContextSummary, ProgramContext, ReturnCredit
from protocol.session import Session
from protocol.system import ChipSettings

CONTEXTS_MOST = 65_536
"""Contexts that any unit can hold, whatever it says of itself."""

ContextRequest = ProgramContext | CloseContext


class UnitState(StrEnum):
    """What the console sees of a unit. FENCED: absent, and certainly quiet."""

    ABSENT = "absent"
    STARTING = "starting"
    RUNNING = "running"
    SUSPECTED = "suspected"
    FENCED = "fenced"


def context_wanted(window: Window) -> ProgramContext:
    """The context of a window as the kernel wants it."""
    return ProgramContext(
        window_id=window.window_id,
        lpar=window.lpar,
        credit_type=window.credit_type,
        window_credits=MAX_WINDOW_CREDITS,
        process_id=window.process_id,
        token=window.token,
    )


@dataclass(slots=True)
class Unit:
    """One NX unit. `quiet_us`: when it has certainly fenced itself; None once that has been acted on. `said_bye`: its
    last session ended so, and no paste was taken in it afterwards.

    `in_flight`: by window, the request that the unit has not answered yet, `doubted` those that it has answered wrongly
    and will be asked again. `listed`: the contexts that it has named so far, while it is asked for them page by page.
    `returns`: window credits that it has not been asked to return yet, `returning` of them are on the wire.

    Windows with an id below `known_below` may have a context at an earlier process of the unit that is not certainly
    quiet yet; `confirmed` are those that the present one holds no more, and which wait for that.
    """

    chip: ChipSettings
    holders: Holders
    session: Session | None = None
    endpoints: dict[str, str] = field(default_factory=dict)
    window_limit: int = 0
    context_limit: int = 0
    """What it says that it can hold; the system may want fewer windows on it."""
    ready: bool = False
    reconciled: bool = False
    quiet_us: int | None = None
    said_bye: bool = False
    in_flight: dict[int, ContextRequest] = field(default_factory=dict)
    doubted: AskedAgain = field(default_factory=AskedAgain)
    listed: dict[int, ContextSummary] = field(default_factory=dict)
    returns: deque[ReturnCredit] = field(default_factory=deque)
    returning: int = 0
    known_below: int = 0
    confirmed: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.chip.unit

    @property
    def reachable(self) -> bool:
        """Whether the unit is connected and heard."""
        return self.session is not None and self.session.peer is not None and not self.session.suspected

    @property
    def usable(self) -> bool:
        """Whether windows may be placed here."""
        return self.ready and self.reconciled and self.reachable

    @property
    def state(self) -> UnitState:
        if self.session is None:
            return UnitState.ABSENT if self.quiet_us is not None else UnitState.FENCED
        if not self.reachable:
            return UnitState.SUSPECTED
        return UnitState.RUNNING if self.ready and self.reconciled else UnitState.STARTING
