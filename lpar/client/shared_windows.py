"""What a process keeps for all its users of libnxz's way: the saved window, and how long jobs take. Procedures only.

The rules are nx_open's and nx_close's (lib/nx_zlib.c): one credit of the partition stays spare, one window serves the
whole process, and it is kept for reuse while credits are plenty.

Streams and jobs are users of a window. The last to leave, which takes no step and so cannot fail, puts the window
among those that are left over; whoever has the lock decides about all of these before letting go of it. A user that
was cancelled cannot wait for the lock: the core has it done (`tidy`).
"""

from __future__ import annotations

import errno

from lpar.client.accelerator import AcceleratorSettings, Unavailable
from lpar.client.credits import read_credits
from lpar.client.delay import COMPRESS_DELAY_TICKS, DECOMPRESS_DELAY_TICKS, DelayAverage
from lpar.client.errors import KernelFailure, MessageRefused, PeerError
from lpar.client.shared_window import SharedWindow
from lpar.client.statistics import Ledger
from lpar.client.steps import Acquire, Mutex, Procedure, now
from protocol.codes import FallbackReason

REUSE_MOST = 10_000
"""libnxz's max_vas_reuse_count: after this many uses a new window is opened, perhaps on a nearer chip."""
OPEN_RETRIES = 10
"""libnxz puts 500 ticks of 512 MHz, a microsecond, between them: less than the way to the kernel takes here."""


class SharedWindows:
    """One saved window for each kind (default or QoS credit, chip asked for): users of one kind share it."""

    def __init__(self) -> None:
        self.compress_delay = DelayAverage(COMPRESS_DELAY_TICKS)
        self.decompress_delay = DelayAverage(DECOMPRESS_DELAY_TICKS)
        self._saved: dict[tuple[bool, int], SharedWindow] = {}
        self._left: dict[SharedWindow, AcceleratorSettings] = {}
        self._mutex = Mutex()

    @property
    def is_untidy(self) -> bool:
        """Whether there are windows without users that nobody has decided about."""
        return bool(self._left)

    def delay(self, *, compresses: bool) -> DelayAverage:
        """The average of one direction."""
        return self.compress_delay if compresses else self.decompress_delay

    def open(self, settings: AcceleratorSettings, ledger: Ledger, thread_id: int) -> Procedure[SharedWindow]:
        """nx_open: a use of a window. Raises Unavailable: OPEN_REFUSED, whose cause has libnxz's errno."""
        timeout_us = settings.timeout_us
        credits = yield from read_credits(qos=settings.qos, timeout_us=timeout_us)
        if credits is not None and credits.used >= credits.total - 1:
            ledger.open_refusals += 1
            text = f"{credits.used} of {credits.total} credits are in use, and one stays spare: free one, or add some"
            raise Unavailable(FallbackReason.OPEN_REFUSED) from BlockingIOError(errno.EAGAIN, text)
        try:
            yield from self._lock(timeout_us)
        except TimeoutError as error:
            raise Unavailable(FallbackReason.TIMEOUT) from error
        try:
            shared = yield from self._use(settings, ledger, thread_id)
            try:
                yield from self._sweep()
            except BaseException:
                # Cancelled, or the session is over: nobody gets this use.
                self.leave(shared, settings)
                raise
            return shared
        finally:
            self._mutex.release()

    def close(self, shared: SharedWindow, settings: AcceleratorSettings) -> Procedure[None]:
        """nx_close. Raises what `tidy` raises; the use is given up all the same."""
        self.leave(shared, settings)
        yield from self.tidy()

    def leave(self, shared: SharedWindow, settings: AcceleratorSettings) -> None:
        """Give a use up, without a step. Who can wait calls `tidy` next."""
        shared.users -= 1
        if not shared.users:
            self._left[shared] = settings

    def tidy(self) -> Procedure[None]:
        """Decide about windows whose last user has left: one that is not the saved one is closed, and the saved one
        where credits are short, to help others.

        Raises TimeoutError where other threads open and close for too long; they do it then.
        """
        if self._left:
            yield from self._lock(max(settings.timeout_us for settings in self._left.values()))
            try:
                yield from self._sweep()
            finally:
                self._mutex.release()

    def _use(self, settings: AcceleratorSettings, ledger: Ledger, thread_id: int) -> Procedure[SharedWindow]:
        """The saved window, or a new one that takes its place."""
        kind = (settings.qos, settings.vas_id)
        saved = self._saved.get(kind)
        if saved is not None and saved.uses <= REUSE_MOST:
            saved.uses += 1
            saved.users += 1
            return saved
        shared = yield from self._new(settings, ledger, thread_id)
        self._saved[kind] = shared
        if saved is not None and not saved.users:
            self._left[saved] = settings
        return shared

    def _sweep(self) -> Procedure[None]:
        """With the lock: only its holder gives a window without users a user again."""
        while self._left:
            shared, settings = next(iter(self._left.items()))
            kept = bool(shared.users) or (yield from self._is_kept(shared, settings))
            del self._left[shared]
            if not kept:
                yield from shared.end(settings.timeout_us)

    def _is_kept(self, shared: SharedWindow, settings: AcceleratorSettings) -> Procedure[bool]:
        """Whether a window without users stays for reuse; forgotten if not."""
        kind = (settings.qos, settings.vas_id)
        if self._saved.get(kind) is not shared:
            return False
        credits = yield from read_credits(qos=settings.qos, timeout_us=settings.timeout_us)
        if credits is None or credits.used < credits.total - 1:
            return True
        del self._saved[kind]
        return False

    def _lock(self, timeout_us: int) -> Procedure[None]:
        tries = 1 + OPEN_RETRIES
        yield Acquire(self._mutex, (yield from now()) + tries * timeout_us)

    def _new(self, settings: AcceleratorSettings, ledger: Ledger, thread_id: int) -> Procedure[SharedWindow]:
        """A window of its own: tried again only where the credits have run out meanwhile."""
        shared = SharedWindow()
        tries = 1
        while True:
            try:
                yield from shared.begin(settings, ledger, thread_id)
            except KernelFailure as failure:
                refused = failure
            except (MessageRefused, PeerError) as failure:
                raise Unavailable(FallbackReason.DATA) from failure
            except OSError as failure:
                ledger.timeouts += 1
                raise Unavailable(FallbackReason.TIMEOUT) from failure
            else:
                return shared
            if tries == 1:
                credits = yield from read_credits(qos=settings.qos, timeout_us=settings.timeout_us)
                if credits is None or credits.total > credits.used:
                    ledger.open_refusals += 1
                    raise Unavailable(FallbackReason.OPEN_REFUSED) from refused
            if tries > OPEN_RETRIES:
                ledger.open_refusals += 1
                exhausted = BlockingIOError(errno.EAGAIN, f"no window after {tries} tries: {refused.strerror}")
                exhausted.__cause__ = refused
                raise Unavailable(FallbackReason.OPEN_REFUSED) from exhausted
            tries += 1
