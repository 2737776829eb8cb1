"""What a process keeps for all its users of libnxz's way: the saved window, and how long jobs take. Procedures only.

The rules are nx_open's and nx_close's (lib/nx_zlib.c): one credit of the partition stays spare, one window serves the
whole process, and it is kept for reuse while credits are plenty.
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
        self._mutex = Mutex()

    def delay(self, *, compresses: bool) -> DelayAverage:
        """The average of one direction."""
        return self.compress_delay if compresses else self.decompress_delay

    def open(self, settings: AcceleratorSettings, ledger: Ledger, thread_id: int) -> Procedure[SharedWindow]:
        """nx_open. Raises Unavailable: OPEN_REFUSED, whose cause has libnxz's errno."""
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
            kind = (settings.qos, settings.vas_id)
            saved = self._saved.get(kind)
            if saved is not None and saved.uses <= REUSE_MOST:
                saved.uses += 1
                saved.users += 1
                return saved
            shared = yield from self._new(settings, ledger, thread_id)
            self._saved[kind] = shared
            if saved is not None and not saved.users:
                yield from saved.end(timeout_us)
            return shared
        finally:
            self._mutex.release()

    def close(self, shared: SharedWindow, settings: AcceleratorSettings) -> Procedure[None]:
        """nx_close: the last user closes a window that is not the saved one, and the saved one where credits are
        short, to help others. Raises TimeoutError where other threads open and close for too long.
        """
        shared.users -= 1
        timeout_us = settings.timeout_us
        yield from self._lock(timeout_us)
        try:
            if shared.users:
                return
            kind = (settings.qos, settings.vas_id)
            if self._saved.get(kind) is shared:
                credits = yield from read_credits(qos=settings.qos, timeout_us=timeout_us)
                if credits is None or credits.used < credits.total - 1:
                    return
                del self._saved[kind]
            yield from shared.end(timeout_us)
        finally:
            self._mutex.release()

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
