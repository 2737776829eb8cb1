"""The processes that may still act as one NX unit, and when the last of the others is certainly quiet. Pure.

A unit's new process says nothing about its predecessor: that one may be alive, cut off from the hypervisor, and take
pastes until its fence. So each process names its guard, something that only one live process can hold at a time (the
lock beside its socket; where there is none, a number of its own). Whoever comes with the guard of an earlier process
is that process itself, or proves by it that the earlier one is gone. The fence of every other one is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypervisor.rows import Drop, Put, Row, SessionRow, UnitGuardRow
from protocol.effects import Effects
from protocol.link import FABRIC

UNPROVEN = b""
"""Stands for processes whose guard is not known; nobody can take their place before their fence has run out."""
GUARDS_LIMIT = 64
"""Processes of one name within one fence that are told apart; older ones are remembered as unproven."""


@dataclass(slots=True)
class Holders:
    """`present` is the guard of the connected process once it has named it. `away`: by guard, when it is quiet."""

    unit: str
    effects: Effects
    present: bytes | None = None
    away: dict[bytes, int] = field(default_factory=dict)

    def restore(self, guards: list[bytes], quiet_us: int) -> None:
        """After a restart of the hypervisor: those that an earlier process knew of, any of them may be alive."""
        self.away = dict.fromkeys(guards, quiet_us)

    def named(self, guard: bytes, epoch: int) -> None:
        """The connected process has named its guard: every earlier holder of the same one is gone."""
        if guard != UNPROVEN:
            self.away.pop(guard, None)
        self.present = guard
        self.effects.writes.append(Put(UnitGuardRow(self.unit, guard, epoch)))

    def lost(self, quiet_us: int) -> None:
        """The session is over: its process may take pastes until `quiet_us`, which after BYE is now.

        One that had not named its guard was given no context; what it held of earlier ones is away under its guard.
        """
        guard, self.present = self.present, None
        if guard is None:
            return
        self.away[guard] = max(quiet_us, self.away.get(guard, 0))
        while len(self.away) > GUARDS_LIMIT:
            oldest = next(known for known in self.away if known != UNPROVEN)
            self.away[UNPROVEN] = max(self.away.pop(oldest), self.away.get(UNPROVEN, 0))
            self.effects.writes.append(Put(UnitGuardRow(self.unit, UNPROVEN, 0)))
            self._forget(oldest)

    def expire(self, now_us: int) -> bool:
        """Forget those that are certainly quiet by now; whether there were any."""
        quiet = [guard for guard, quiet_us in self.away.items() if now_us >= quiet_us]
        for guard in quiet:
            del self.away[guard]
            self._forget(guard)
        return bool(quiet)

    @property
    def quiet_us(self) -> int | None:
        """When the last of the processes that are away is certainly quiet; None where there is none."""
        return max(self.away.values(), default=None)

    def _forget(self, guard: bytes) -> None:
        if guard != self.present:
            self.effects.writes.append(Drop(UnitGuardRow, (self.unit, guard)))


def guards_of(rows: list[Row], unit: str) -> list[bytes]:
    """Who may act as the unit, as the earlier process knew; a ledger from before guards has only the session."""
    known = [row.guard for row in rows if isinstance(row, UnitGuardRow) and row.unit == unit]
    sessions = [row for row in rows if isinstance(row, SessionRow) and (row.link, row.name) == (FABRIC.name, unit)]
    return known or [UNPROVEN for row in sessions if row.alive]
