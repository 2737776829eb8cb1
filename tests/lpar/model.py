"""What a partition's window lists should look like: domain.md 5.2 to 5.7 on plain Python lists.

Written from that text alone and sharing nothing with the driver: a window is a name in a list, oldest first, and its
reasons for being closed are two sets of names. Every operation happens at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Faults:
    """Which of the coming hcalls fail: the n-th allocate, modify or deallocate (from 0), or none."""

    allocate: int | None = None
    modify: int | None = None
    deallocate: int | None = None

    def hit(self, kind: str) -> bool:
        """Count one hcall of this kind down; True for the one that fails."""
        left: int | None = getattr(self, kind)
        if left is None:
            return False
        setattr(self, kind, left - 1 if left else None)
        return left == 0


@dataclass
class Lists:
    """One credit type. `granted` is how many windows of it the hypervisor has, forgotten ones included."""

    total: int
    target: int
    eager: bool = False
    oldest_first: list[int] = field(default_factory=list)
    lost_credit: set[int] = field(default_factory=set)
    lost_by_migration: set[int] = field(default_factory=set)
    counted_closed: int = 0
    counted_used: int = 0
    granted: int = 0
    faults: Faults = field(default_factory=Faults)

    def is_closed(self, name: int) -> bool:
        return name in self.lost_credit or name in self.lost_by_migration

    def status(self, name: int) -> str:
        words = ["no_cred_close"] * (name in self.lost_credit) + ["migrate_close"] * (name in self.lost_by_migration)
        return "|".join(words) or "active"

    @property
    def active(self) -> int:
        return len(self.oldest_first) - self.counted_closed

    def open(self, name: int, migrating: bool) -> str:
        """5.3: the outcome as a reason; `opened` where a window results."""
        if self.counted_used + 1 > self.total:
            return "no_credit"
        if migrating:
            return "migration"
        if not self._allocate():
            return "hcall_failed"
        if self.faults.hit("modify"):
            self._deallocate()
            self._come_back(migrating)
            return "hcall_failed"
        if self.counted_closed != 0:
            self._deallocate()
            self._come_back(migrating)
            return "closed_windows"
        self.oldest_first.append(name)
        self.counted_used += 1
        return "opened"

    def close(self, names: list[int], migrating: bool) -> None:
        """5.4, for all windows of a process or for one."""
        removed = False
        for name in names:
            if self.is_closed(name):
                self.counted_closed -= 1
            elif not self._deallocate():
                continue
            self.oldest_first.remove(name)
            self.lost_credit.discard(name)
            self.lost_by_migration.discard(name)
            self.counted_used -= 1
            removed = True
        if removed:
            self._come_back(migrating)

    def reconfigure(self, total: int, migrating: bool) -> bool:
        """5.5: a new total. False where an hcall failed."""
        before, self.total = self.total, total
        if before < total:
            fine = self._reopen_for(total - before)
        else:
            fine = self._close_excess(self.active - total) if self.active > total else True
        if fine:
            self._come_back(migrating)
        return fine

    def _close_excess(self, excess: int) -> bool:
        for name in list(reversed(self.oldest_first)):
            if self.is_closed(name):
                self.lost_credit.add(name)
                continue
            self.lost_credit.add(name)
            if not self._deallocate():
                return False
            self.counted_closed += 1
            excess -= 1
            if excess == 0:
                return True
        return True

    def _reopen_for(self, credits: int) -> bool:
        if self.counted_closed == 0:
            return True
        skip = self.counted_closed - credits if self.counted_closed > credits else 0
        return self._reopen(list(reversed(self.oldest_first))[skip:], self.lost_credit)

    def _reopen(self, names: list[int], reason: set[int]) -> bool:
        for name in names:
            if name in self.lost_credit and name in self.lost_by_migration:
                reason.remove(name)
            elif name in reason:
                if not self._allocate():
                    return False
                if self.faults.hit("modify"):
                    self._deallocate()
                    return False
                reason.remove(name)
                self.counted_closed -= 1
                if self.counted_closed == 0:
                    return True
        return True

    def suspend(self) -> None:
        """5.7: everything closes, whatever the hypervisor says."""
        for name in reversed(self.oldest_first):
            if not self.is_closed(name):
                self._deallocate()
                self.counted_closed += 1
            self.lost_by_migration.add(name)

    def resume(self) -> bool:
        """5.7: the hypervisor's target becomes the total, and what the migration closed comes back."""
        self.total = self.target
        if self.counted_closed == 0:
            return True
        return self._reopen(list(reversed(self.oldest_first)), self.lost_by_migration)

    def come_back_after_resume(self) -> None:
        self._come_back(migrating=False)

    def _come_back(self, migrating: bool) -> None:
        """`reopen = "eager"`: the oldest of those that only lack credit, as far as there is room."""
        room = self.total - self.active
        if not self.eager or migrating or room <= 0:
            return
        waiting = [name for name in self.oldest_first if self.is_closed(name) and name not in self.lost_by_migration]
        self._reopen(list(reversed(waiting[:room])), self.lost_credit)

    def _allocate(self) -> bool:
        if self.faults.hit("allocate") or self.granted >= self.target:
            return False
        self.granted += 1
        return True

    def _deallocate(self) -> bool:
        if self.faults.hit("deallocate"):
            return False
        self.granted -= 1
        return True
