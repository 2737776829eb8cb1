"""vas_pseries_mutex: one holder, and those who wait for it in the order in which they came.

The driver holds it around allocate and deallocate hcalls with the set-up of the interrupt, because the hypervisor may
hand the interrupt number of a window just closed to the next one (vas.c). It guards the window lists too.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from protocol.clock import MILLISECOND_US

MUTEX_HOLD_US = 100 * MILLISECOND_US
"""How long one open or close keeps everybody else waiting while its hcall is busy or has no answer.

Longer than what the requests in flight on a window take an accelerator that answers.
"""


class Waiter(Protocol):
    """An operation that locks the mutex."""

    def granted(self, now_us: int) -> None:
        """The mutex is yours until you unlock it."""


class Mutex:
    """A first-in, first-out mutex for operations that wait without a thread."""

    def __init__(self) -> None:
        self.holder: Waiter | None = None
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()
        self._granting = False

    def __len__(self) -> int:
        """How many operations wait."""
        return len(self._waiting)

    def lock(self, waiter: Waiter, now_us: int) -> None:
        """Call `waiter.granted` when its turn comes, which may be at once."""
        assert waiter is not self.holder, "the mutex is not recursive"
        assert waiter not in self._waiting, "an operation waits once"
        self._waiting[waiter] = None
        self._grant(now_us)

    def unlock(self, waiter: Waiter, now_us: int) -> None:
        """Pass the mutex on."""
        assert waiter is self.holder, "only the holder unlocks"
        self.holder = None
        self._grant(now_us)

    def withdraw(self, waiter: Waiter) -> None:
        """Stop waiting."""
        del self._waiting[waiter]

    def _grant(self, now_us: int) -> None:
        """Grant in a loop, not in nested calls: ten thousand waiters may each unlock at once."""
        if self._granting:
            return
        self._granting = True
        try:
            while self.holder is None and self._waiting:
                self.holder, _ = self._waiting.popitem(last=False)
                self.holder.granted(now_us)
        finally:
            self._granting = False
