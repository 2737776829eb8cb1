"""The windows and counters of one credit type (struct vas_caps). Source: domain.md 5.2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lpar.window import Window
from protocol.codes import CreditType, VasQuery, WindowFlag

FEATURE = {CreditType.QOS: VasQuery.GZIP_QOS, CreditType.DEFAULT: VasQuery.GZIP_DEFAULT}
"""The capability query that belongs to a credit type."""


@dataclass(slots=True)
class Pool:
    """One type's state. The names are the driver's, without their nr_ where a word says it.

    `used` counts closed windows, opens under way and closes that linger too; `progress` counts the last two.
    `nr_close` may stray from the flags after a failed deallocation, as it does in Linux; it is never corrected here
    either.
    """

    credit_type: CreditType
    present: bool = False
    total: int = 0
    used: int = 0
    nr_open: int = 0
    nr_close: int = 0
    progress: int = 0
    _windows: dict[int, Window] = field(default_factory=dict)

    @property
    def active(self) -> int:
        """Windows open in the hypervisor, as the driver counts them."""
        return self.nr_open - self.nr_close

    def __len__(self) -> int:
        return len(self._windows)

    def newest_first(self) -> Iterator[Window]:
        """The list from its head: the window opened last comes first."""
        return reversed(self._windows.values())

    def add(self, window: Window, order: int) -> None:
        """Put a new window at the head of the list."""
        assert order > next((other.order for other in self.newest_first()), 0), "orders rise"
        window.order = order
        self._windows[order] = window
        self.nr_open += 1

    def remove(self, window: Window) -> None:
        """Take a window off the list and give its credit back."""
        del self._windows[window.order]
        self.used -= 1
        self.nr_open -= 1

    def set_aside(self, window: Window) -> None:
        """Take a window off the list that the hypervisor is still at closing: its credit is not back yet."""
        del self._windows[window.order]
        self.nr_open -= 1
        self.progress += 1

    def closed_at_last(self, *, credit_back: bool) -> None:
        """The hypervisor is done with a window that was set aside."""
        self.progress -= 1
        if credit_back:
            self.used -= 1

    def stranded(self) -> list[Window]:
        """The oldest windows without credit for which there is room, newest of them first.

        The kernel's own rules leave them closed; reopening them is the eager policy.
        """
        closed = [window for window in self.newest_first() if window.status == WindowFlag.NO_CRED_CLOSE]
        room = self.total - self.active
        return closed[-room:] if room > 0 else []
