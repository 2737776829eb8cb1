"""One window on the accelerator and what is done when it cannot be used. Procedures only.

A window that lost its credit is kept and tried again with every request, at the price of one fault. libnxz's way is
in reopening.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from lpar.client.errors import BusError, KernelFailure, MessageRefused, PasteRefused, PeerError, RequestLost
from lpar.client.request import Csb, Request
from lpar.client.selection import Selection
from lpar.client.statistics import Ledger
from lpar.client.steps import Acquire, Mutex, Procedure, now
from lpar.client.system_calls import read_file
from lpar.client.window import WindowState, close_window, map_window, open_window, paste_and_wait
from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.codes import FallbackReason, FaultOutcome, KernelReason
from protocol.message import PasteAddress

OPEN_REST_US = 100 * MILLISECOND_US
"""After a refused open, this long without another try."""
UNIT_REST_FIRST_US = 1 * SECOND_US
UNIT_REST_MOST_US = 30 * SECOND_US
"""After an NX unit did not answer, this long in software before the next try; doubled each time it fails again."""
LIMIT_PATH = "/sys/devices/vio/ibm,compression-v1/nx_gzip_caps/req_max_processed_len"
LIMIT_DEFAULT_BYTES = 1 << 20
LIMIT_LEAST_BYTES, LIMIT_MOST_BYTES = 65_536, 2 << 20


class OnSuspend(StrEnum):
    """What to do about a window that lost its credit."""

    SOFTWARE = "software"
    REOPEN = "reopen"

    @property
    def timeout_s(self) -> float:
        """How long one request may take unless the caller says so; libnxz waits 60 s for a CSB."""
        return 60.0 if self is OnSuspend.REOPEN else 10.0

    def patience_s(self, reopen_s: float) -> float:
        """How long its pastes may be refused; libnxz has one limit for that and for opening again."""
        return reopen_s if self is OnSuspend.REOPEN else 1.0


@dataclass(frozen=True, slots=True)
class AcceleratorSettings:
    """`timeout_us` bounds one request, `patience_us` its refusals, `reopen_us` the attempts to open again,
    `fault_timeout_us` the page faults of one request.
    """

    on_suspend: OnSuspend
    qos: bool
    vas_id: int
    timeout_us: int
    patience_us: int
    reopen_us: int
    fault_timeout_us: int


class Unavailable(Exception):
    """The accelerator did not do a request; why is its cause, chained."""

    def __init__(self, reason: FallbackReason) -> None:
        super().__init__(reason.meaning)
        self.reason = reason


class Accelerator:
    """The window of one NxGzip, kept whatever happens to it. Requests take turns."""

    def __init__(self, settings: AcceleratorSettings, ledger: Ledger) -> None:
        self.settings = settings
        self.ledger = ledger
        self.window: WindowState | None = None
        self._mutex = Mutex()
        self._limit_bytes: int | None = None
        self._rest_until_us = 0
        self._rest_reason = FallbackReason.TIMEOUT
        self._unit_rest_us = UNIT_REST_FIRST_US

    def request_limit(self) -> Procedure[int]:
        """The largest source of one request in bytes, as sysfs has it; a default where it does not say."""
        if self._limit_bytes is not None:
            return self._limit_bytes
        try:
            text = yield from read_file(LIMIT_PATH, self.settings.timeout_us)
            limit_bytes = int(text)
        except (OSError, MessageRefused, PeerError, ValueError):
            return LIMIT_DEFAULT_BYTES
        self._limit_bytes = max(LIMIT_LEAST_BYTES, min(limit_bytes, LIMIT_MOST_BYTES))
        return self._limit_bytes

    def choose(
        self, selection: Selection, length: int, thread_id: int, *, compresses: bool
    ) -> Procedure[FallbackReason | None]:
        """Why a whole call with so much input stays in software; None: each of its requests is tried."""
        yield from ()
        return selection.software_reason(length)

    def run(self, request: Request, thread_id: int) -> Procedure[Csb]:
        """One request; what its CSB says is the caller's affair. Raises Unavailable."""
        deadline_us = (yield from now()) + self.settings.timeout_us
        try:
            yield Acquire(self._mutex, deadline_us)
        except TimeoutError as error:
            raise Unavailable(FallbackReason.PASTE_BUSY) from error
        try:
            self.ledger.requests += 1
            return (yield from self._run(request, thread_id))
        finally:
            self._mutex.release()

    def open(self, thread_id: int) -> Procedure[None]:
        """Open and map the window now, if there is none. Raises KernelFailure."""
        deadline_us = (yield from now()) + self.settings.timeout_us
        yield Acquire(self._mutex, deadline_us)
        try:
            if self.window is None:
                self.window = yield from self._open(thread_id)
            yield from map_window(self.window, self.settings.timeout_us)
        except Unavailable as unavailable:
            raise unavailable.__cause__ or unavailable from None
        finally:
            self._mutex.release()

    @property
    def address(self) -> PasteAddress | None:
        """Where the window's pastes go; None while nothing is mapped."""
        mapping = None if self.window is None else self.window.mapping
        return None if mapping is None else mapping.address

    def close(self) -> Procedure[None]:
        """Give the window back."""
        deadline_us = (yield from now()) + self.settings.timeout_us
        yield Acquire(self._mutex, deadline_us)
        try:
            yield from self._drop_window()
        finally:
            self._mutex.release()

    def _run(self, request: Request, thread_id: int) -> Procedure[Csb]:
        yield from self._check_rest()
        try:
            csb = yield from self._attempt(request, thread_id)
        except (OSError, BusError, PasteRefused, RequestLost, MessageRefused, PeerError) as failure:
            raise Unavailable((yield from self._failed(failure))) from failure
        self._worked()
        return csb

    def _check_rest(self) -> Procedure[None]:
        """Raises Unavailable for a while after a refused open, or after a unit did not answer."""
        if (yield from now()) < self._rest_until_us:
            raise Unavailable(self._rest_reason)

    def _attempt(self, request: Request, thread_id: int) -> Procedure[Csb]:
        window = self.window
        if window is None:
            window = self.window = yield from self._open(thread_id)
        settings = self.settings
        try:
            mapping = yield from map_window(window, settings.timeout_us)
        except KernelFailure as failure:
            if failure.reason is KernelReason.INACTIVE:
                raise PasteRefused(FaultOutcome.PASTE_FAILED) from failure
            raise
        deadline_us = (yield from now()) + settings.timeout_us
        return (yield from paste_and_wait(mapping, request, settings.patience_us, deadline_us, endure_closed=False))

    def _open(self, thread_id: int) -> Procedure[WindowState]:
        settings = self.settings
        began_us = yield from now()
        try:
            window = yield from open_window(
                qos=settings.qos,
                vas_id=settings.vas_id,
                thread_id=thread_id,
                timeout_us=settings.timeout_us,
                tally=self.ledger.tally,
            )
        except KernelFailure as failure:
            if failure.reason is KernelReason.DEAD:
                raise
            self.ledger.open_refusals += 1
            self._rest_until_us = (yield from now()) + OPEN_REST_US
            self._rest_reason = FallbackReason.OPEN_REFUSED
            raise Unavailable(FallbackReason.OPEN_REFUSED) from failure
        self.ledger.opens += 1
        self.ledger.opening.observe((yield from now()) - began_us)
        return window

    def _failed(self, failure: Exception) -> Procedure[FallbackReason]:
        """What a failed attempt means, and what follows from it for the window."""
        if isinstance(failure, PasteRefused):
            if failure.fault is not FaultOutcome.PASTE_FAILED:
                return FallbackReason.PASTE_BUSY
            return self._suspended()
        if isinstance(failure, KernelFailure) and failure.reason is KernelReason.DEAD:
            self.window = None
            self.ledger.suspended = False
            return FallbackReason.SESSION_DEAD
        if isinstance(failure, KernelFailure | BusError):
            yield from self._drop_window()
            return self._suspended()
        if isinstance(failure, MessageRefused | PeerError):
            return FallbackReason.DATA
        self.ledger.timeouts += 1
        yield from self._rest_after_silence()
        return FallbackReason.TIMEOUT

    def _rest_after_silence(self) -> Procedure[None]:
        self._rest_until_us = (yield from now()) + self._unit_rest_us
        self._rest_reason = FallbackReason.TIMEOUT
        self._unit_rest_us = min(2 * self._unit_rest_us, UNIT_REST_MOST_US)

    def _suspended(self) -> FallbackReason:
        if not self.ledger.suspended:
            self.ledger.suspended = True
            self.ledger.suspensions += 1
        return FallbackReason.WINDOW_SUSPENDED

    def _worked(self) -> None:
        self._unit_rest_us = UNIT_REST_FIRST_US
        if self.ledger.suspended:
            self.ledger.suspended = False
            self.ledger.resumptions += 1

    def _drop_window(self) -> Procedure[None]:
        """Close the window, whatever the kernel says to it."""
        window, self.window = self.window, None
        if window is None:
            return
        try:
            yield from close_window(window, self.settings.timeout_us)
        except (OSError, MessageRefused, PeerError):
            # The descriptor is given up either way; the kernel closes it with the process at the latest.
            return
