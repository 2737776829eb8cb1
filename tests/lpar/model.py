"""What a partition's kernel does to its windows: domain.md 5.2 to 5.7 on plain Python lists, beside its hypervisor.

Written from that text alone and sharing nothing with the driver. Everything happens at once: an hcall is a function,
an hcall that fails an exception. The names are vas.c's, so that the two can be read side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.lpar.model_hypervisor import DEFAULT, QOS, HcallFailed, Hypervisor


@dataclass(eq=False)
class Window:
    """`name`: its place in the order of opening. `present`: whether the paste page is mapped, None without an mmap."""

    kind: str
    pid: int
    window_id: int
    name: int = 0
    no_cred_close: bool = False
    migrate_close: bool = False
    present: bool | None = None

    @property
    def status(self) -> str:
        words = ["no_cred_close"] * self.no_cred_close + ["migrate_close"] * self.migrate_close
        return "|".join(words) or "active"


@dataclass
class Caps:
    """One credit type. `windows` has the newest at its head."""

    kind: str
    total: int
    used: int = 0
    nr_open_windows: int = 0
    nr_close_wins: int = 0
    windows: list[Window] = field(default_factory=list)
    in_progress: list[Window] = field(default_factory=list)

    @property
    def active(self) -> int:
        return self.nr_open_windows - self.nr_close_wins

    @property
    def lacking_credit(self) -> list[Window]:
        """Closed for lost credit alone, newest first."""
        return [window for window in self.windows if window.no_cred_close and not window.migrate_close]


@dataclass
class Change:
    """What a reconfiguration did: ids of windows closed, new ids of windows reopened."""

    fine: bool = True
    closed: list[int] = field(default_factory=list)
    reopened: list[int] = field(default_factory=list)


class Kernel:
    """A partition's driver. `seen` collects the names of rare states that it came through."""

    def __init__(self, hypervisor: Hypervisor, *, eager: bool) -> None:
        self.hypervisor = hypervisor
        self.eager = eager
        self.caps = {kind: Caps(kind, hypervisor.target[kind]) for kind in (QOS, DEFAULT)}
        self.migrating = False
        self.last_name = 0
        self.retrying: list[str] = []
        self.seen: set[str] = set()

    # 5.3

    def begin_open(self, kind: str, pid: int) -> Window | str:
        """Up to the allocation: the window, or why there is none."""
        caps = self.caps[kind]
        if caps.used + 1 > caps.total:
            return "no_credit"
        if self.migrating:
            return "migration"
        try:
            window = Window(kind, pid, self.hypervisor.allocate(kind))
        except HcallFailed:
            return "hcall_failed"
        caps.used += 1
        caps.in_progress.append(window)
        return window

    def finish_open(self, window: Window, *, modified: bool) -> str:
        """From the return of H_MODIFY on: `opened`, or why it was undone."""
        caps = self.caps[window.kind]
        if modified and caps.nr_close_wins == 0 and not self.migrating:
            caps.in_progress.remove(window)
            caps.windows.insert(0, window)
            caps.nr_open_windows += 1
            self.last_name += 1
            window.name = self.last_name
            self._seen("open in flight overtakes a removal", caps.active > caps.total)
            return "opened"
        reason = "migration" if self.migrating else "closed_windows"
        self._seen("open refused although a credit is idle", caps.used - 1 < caps.total and reason == "closed_windows")
        self._deallocate_ignoring_errors(window)
        caps.in_progress.remove(window)
        caps.used -= 1
        self.come_back(caps)
        return reason if modified else "hcall_failed"

    def open(self, kind: str, pid: int) -> Window | str:
        begun = self.begin_open(kind, pid)
        if isinstance(begun, str):
            return begun
        try:
            self.hypervisor.modify(begun.window_id, pid)
        except HcallFailed:
            return self.finish_open(begun, modified=False)
        outcome = self.finish_open(begun, modified=True)
        return begun if outcome == "opened" else outcome

    # 5.4

    def close(self, windows: list[Window]) -> None:
        """The last references to these windows' files go, in this order."""
        roomy: list[Caps] = []
        for window in windows:
            caps = self.caps[window.kind]
            if window.status == "active":
                try:
                    self.hypervisor.deallocate(window.window_id)
                except HcallFailed:
                    self.seen.add("window leaked")
                    continue
            else:
                caps.nr_close_wins -= 1
                self._seen("negative counter of closed windows", caps.nr_close_wins < 0)
            caps.windows.remove(window)
            caps.used -= 1
            caps.nr_open_windows -= 1
            if caps not in roomy and caps.lacking_credit and caps.total > caps.active:
                roomy.append(caps)
        for caps in roomy:
            self.seen.add("stranded credits")
            self.come_back(caps)

    # 5.5

    def dlpar(self) -> Change:
        """5.6: processors have changed; ask for the default credits."""
        try:
            return self.reconfigure(DEFAULT, self.hypervisor.query(DEFAULT))
        except HcallFailed:
            return Change(fine=False)

    def reconfigure(self, kind: str, total: int) -> Change:
        caps, change = self.caps[kind], Change()
        before, caps.total = caps.total, total
        try:
            if before < total:
                self.reconfig_open_windows(caps, total - before, change, migrate=False)
            elif caps.active > total:
                self.reconfig_close_windows(caps, caps.active - total, change, migrate=False)
        except HcallFailed:
            change.fine = False
            self._retry_later(caps)
        else:
            self.come_back(caps, change)
        return change

    def reconfig_close_windows(self, caps: Caps, excess: int, change: Change, *, migrate: bool) -> None:
        for window in caps.windows:
            was_active = window.status == "active"
            if migrate:
                window.migrate_close = True
            else:
                self._seen("removal flags a window that a migration closed", window.status == "migrate_close")
                window.no_cred_close = True
            if not was_active:
                self._seen("both flags", window.no_cred_close and window.migrate_close)
                continue
            if window.present:
                window.present = False
            try:
                self.hypervisor.deallocate(window.window_id)
            except HcallFailed:
                if not migrate:
                    self.seen.add("flagged but not counted")
                    raise
            caps.nr_close_wins += 1
            change.closed.append(window.window_id)
            excess -= 1
            if not migrate and excess == 0:
                return

    def reconfig_open_windows(self, caps: Caps, creds: int, change: Change, *, migrate: bool) -> None:
        if caps.nr_close_wins == 0:
            return
        skipped = caps.nr_close_wins - creds if caps.nr_close_wins > creds and not migrate else 0
        lacking = [window for window in caps.windows if window.no_cred_close]
        jumped = [window for window in caps.windows[:skipped] if window.no_cred_close]
        self._seen("skip jumps over windows that the credits would do for", bool(jumped) and creds >= len(lacking))
        self._seen("skip counts open windows", any(one.status == "active" for one in caps.windows[:skipped]))
        self._reopen(caps, caps.windows[skipped:], change, migrate=migrate)

    def _reopen(self, caps: Caps, windows: list[Window], change: Change, *, migrate: bool) -> None:
        for window in windows:
            if window.no_cred_close and window.migrate_close:
                self.seen.add("one of two flags cleared")
                window.no_cred_close, window.migrate_close = migrate, not migrate
                continue
            if not (window.migrate_close if migrate else window.no_cred_close):
                continue
            window.window_id = self.hypervisor.allocate(caps.kind)
            try:
                self.hypervisor.modify(window.window_id, window.pid)
            except HcallFailed:
                self.seen.add("modify fails while reopening")
                self._deallocate_ignoring_errors(window)
                raise
            window.no_cred_close = window.migrate_close = False
            caps.nr_close_wins -= 1
            change.reopened.append(window.window_id)
            if caps.nr_close_wins == 0:
                return

    # 5.7

    def suspend(self) -> None:
        """Errors are ignored; opens under way see the flag and undo themselves."""
        self.migrating = True
        for caps in self.caps.values():
            try:
                self.hypervisor.query(caps.kind)
            except HcallFailed:
                self.seen.add("query fails in a migration")
            self.reconfig_close_windows(caps, 0, Change(), migrate=True)
            while caps.in_progress:
                self.seen.add("suspended with an open half done")
                self.finish_open(caps.in_progress[0], modified=True)

    def resume(self) -> None:
        """The first error ends it; the other type is not resumed then."""
        self.migrating = False
        for caps in self.caps.values():
            try:
                caps.total = self.hypervisor.query(caps.kind)
            except HcallFailed:
                self.seen.add("query fails in a migration")
                return
            try:
                self.reconfig_open_windows(caps, 0, Change(), migrate=True)
            except HcallFailed:
                self.seen.add("resume stops midway")
                self._retry_later(caps)
                return
            self._seen("total without credits for all that resumed", caps.active > caps.total)
            self.come_back(caps)

    # `reopen = "eager"`, which is no kernel's.

    def come_back(self, caps: Caps, change: Change | None = None) -> None:
        """The oldest of those that only lack credit come back, as far as there is room."""
        room = caps.total - caps.active
        if not self.eager or self.migrating or room <= 0 or not caps.lacking_credit:
            return
        change, before = change or Change(), len(change.reopened) if change else 0
        try:
            self._reopen(caps, caps.lacking_credit[-room:], change, migrate=False)
        except HcallFailed:
            self._retry_later(caps)
        self._seen("eager reopening", len(change.reopened) > before)

    def a_second_passes(self) -> None:
        again, self.retrying = self.retrying, []
        for kind in again:
            self.seen.add("eager reopening tried again")
            self.come_back(self.caps[kind])

    def _retry_later(self, caps: Caps) -> None:
        if self.eager and caps.kind not in self.retrying:
            self.retrying.append(caps.kind)

    def _deallocate_ignoring_errors(self, window: Window) -> None:
        try:
            self.hypervisor.deallocate(window.window_id)
        except HcallFailed:
            self.seen.add("window left behind in the hypervisor")

    def _seen(self, state: str, reached: bool) -> None:
        if reached:
            self.seen.add(state)
