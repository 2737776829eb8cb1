"""What a restarted hypervisor puts off until its units have told what they hold, and what it need not. Pure.

What is not known of a unit concerns its own windows alone, and takes no credit from anybody unseen. A window's row is
stored before its context is asked for and goes only when no context of it is left, so that the rows count whatever a
unit may hold; a context without a row is one of a ledger that was put aside, and ids are not used again, so that no
window of this ledger is ever taken for it. It is closed when its unit settles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypervisor.ledger import Ledger, WindowPhase
from hypervisor.units import Units
from protocol.effects import Effects
from protocol.hcall_messages import (
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HGetNxFault,
    HModifyVasWindow,
    HQueryVasWindow,
)  # fmt: skip
from protocol.message import Request
from protocol.mobility_messages import HJoin


@dataclass(slots=True)
class Recovery:
    """`waited_for`: the units that had windows or were here when the earlier process ended, and are not settled yet.

    They have as long to come back as a unit that is heard has until it is suspected (`suspect_us`): in that time new
    windows wait, because theirs may be the preferred place, and so do hcalls for their windows. A unit that stays away
    is from then on an absent one like any other: new windows go elsewhere, and who has no credit left but for a window
    that is being closed there is refused, as at any other time. The kernel may ask under its mutex, and a close of
    its own, which would give it a credit, waits for that. One fence after the start (`over_us`) nothing is waited for
    any more.
    """

    ledger: Ledger
    units: Units
    effects: Effects
    waited_for: set[str] = field(default_factory=set)
    expected_us: int = 0
    over_us: int = 0

    def start(self, units: set[str], suspect_us: int, now_us: int) -> None:
        """These units are to tell what they hold."""
        self.waited_for = units
        self.expected_us = now_us + suspect_us
        self.over_us = now_us + self.units.fence_us

    @property
    def active(self) -> bool:
        """Whether it is not known yet what some unit holds."""
        self.waited_for = {unit for unit in self.waited_for if not self.units.is_settled(unit)}
        return bool(self.waited_for)

    def tick(self, now_us: int) -> None:
        """Give up the units that have not settled within a fence."""
        if self.waited_for and now_us >= self.over_us and self.active:
            self.effects.note("error", "units_not_settled", units=sorted(self.waited_for))
            self.waited_for = set()

    def wake_us(self) -> int | None:
        return self.over_us if self.waited_for else None

    def puts_off(self, lpar: str, request: Request, now_us: int) -> bool:
        """Whether the answer may be another one when the units have settled, so that now is too early for it."""
        if not self.active:
            return False
        match request:
            case HAllocateVasWindow():
                return now_us < self.expected_us or self.units.place(None) is None
            case (
                HModifyVasWindow(window_id=window_id)
                | HDeallocateVasWindow(window_id=window_id)
                | HQueryVasWindow(window_id=window_id)
                | HGetNxFault(window_id=window_id)
            ):
                window = self.ledger.windows.get(window_id)
                on_its_way = window is not None and window.unit in self.waited_for
                return on_its_way and now_us < self.expected_us
            case HJoin():
                return self._is_being_closed(lpar)
            case _:
                return False

    def _is_being_closed(self, lpar: str) -> bool:
        """Whether a window of the partition is being closed at a unit that is waited for."""
        return any(
            window.lpar == lpar and window.phase is WindowPhase.CLOSING and window.unit in self.waited_for
            for window in self.ledger.windows.values()
        )
