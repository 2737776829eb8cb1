"""The window that a process shares, and the jobs of its threads on it, as libnxz's nxu_run_job. Procedures only.

Threads take turns: a window has one window credit. A job whose pastes have been refused for 31 ms reads the credit
counters; where they are overdrawn, or fewer than when the window was opened, it takes the window for suspended, closes
it (the kernel opens none while closed ones wait for credit) and opens another. The generation tells the other threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle

from lpar.client.accelerator import AcceleratorSettings, Unavailable
from lpar.client.credits import read_credits
from lpar.client.errors import BusError, KernelFailure, MessageRefused, PasteRefused, PeerError, RequestLost
from lpar.client.request import Csb, Request
from lpar.client.statistics import Ledger
from lpar.client.steps import Acquire, Connect, IfCancelled, Mutex, Procedure, now, pause
from lpar.client.system_calls import Mapping, paste, wait_csb
from lpar.client.window import (
    RETRY_BUSY_MOST_US,
    RETRY_CLOSED_MOST_US,
    RETRY_FIRST_US,
    WindowState,
    close_window,
    map_window,
    open_window,
)
from protocol.codes import FallbackReason, FaultOutcome
from protocol.device_messages import CloseDescriptor

SUSPECT_US = 31_250
"""libnxz's SUSPENDED_TIME_THRESHOLD: refusals for this long may mean a suspended window."""
REOPEN_WAITS_US = (31_250, 62_500, 125_000)


@dataclass(slots=True, eq=False)
class SharedWindow:
    """libnxz's handle. Without a `window` it is dead: the next job begins with opening one.

    `users` are streams that have it open and jobs on it, `uses` all streams that ever had. It ends with its last user:
    a stream that is closed beside a job leaves the window to the job. `generation` counts windows opened in place of
    lost ones. Whoever pastes or opens has the `turn`.
    """

    window: WindowState | None = None
    total_at_open: int = 0
    users: int = 1
    uses: int = 1
    generation: int = 0
    turn: Mutex = field(default_factory=Mutex)

    @property
    def mapping(self) -> Mapping | None:
        """The page to paste to."""
        return None if self.window is None else self.window.mapping

    def begin(self, settings: AcceleratorSettings, ledger: Ledger, thread_id: int) -> Procedure[None]:
        """nx_function_begin: open and map, in a new session where the last one is over.

        Raises KernelFailure, TimeoutError, MessageRefused, PeerError; nothing stays open then.
        """
        timeout_us = settings.timeout_us
        began_us = yield from now()
        yield Connect(True, began_us + timeout_us)
        window = yield from open_window(
            qos=settings.qos, vas_id=settings.vas_id, thread_id=thread_id, timeout_us=timeout_us, tally=ledger.tally
        )
        yield IfCancelled(CloseDescriptor(descriptor=window.descriptor.number))
        try:
            credits = yield from read_credits(qos=settings.qos, timeout_us=timeout_us)
            # Last, because a mapping that a cancelled call has already been given would stay.
            yield from map_window(window, timeout_us)
        except Exception:
            yield IfCancelled(None)
            yield from close_quietly(window, timeout_us)
            raise
        yield IfCancelled(None)
        self.window = window
        self.total_at_open = 0 if credits is None else credits.total
        ledger.opens += 1
        ledger.opening.observe((yield from now()) - began_us)

    def end(self, timeout_us: int) -> Procedure[None]:
        """nx_function_end: give the window back, if there is one, whatever the kernel says to it."""
        window, self.window = self.window, None
        if window is not None:
            yield from close_quietly(window, timeout_us)


def close_quietly(window: WindowState, timeout_us: int) -> Procedure[None]:
    """Close; the descriptor is given up either way, and the kernel closes it with the process at the latest."""
    try:
        yield from close_window(window, timeout_us)
    except (OSError, MessageRefused, PeerError):
        return


@dataclass(frozen=True, slots=True)
class Refusal:
    """A paste that nobody took. `closed`: the kernel says so; `gone`: there is no window to paste to."""

    cause: Exception | None
    closed: bool = False
    gone: bool = False


class Job:
    """One request of one thread on a shared window, of which it has a use.

    The clock counts refusals and the pauses between them, not the wait for other threads' turns. As libnxz's it goes
    on where another thread has reopened the window, and begins anew where this one has.
    """

    def __init__(self, shared: SharedWindow, settings: AcceleratorSettings, ledger: Ledger, thread_id: int) -> None:
        self.shared = shared
        self.settings = settings
        self.ledger = ledger
        self.thread_id = thread_id
        self._since_us = 0
        self._look_us = 0
        self._wait_us = RETRY_FIRST_US

    def run(self, request: Request) -> Procedure[Csb]:
        """The request until it is done. Raises Unavailable."""
        yield from self._restart_clock()
        while True:
            yield from self._take_turn()
            try:
                generation = self.shared.generation
                made = yield from self._attempt(request)
            finally:
                self.shared.turn.release()
            if isinstance(made, Csb):
                return made
            if made.gone or (yield from self._looks_suspended()):
                yield from self._reopen(generation)
                continue
            if (yield from now()) - self._since_us > self.settings.patience_us:
                raise Unavailable(FallbackReason.PASTE_BUSY) from made.cause
            yield from self._pause(made)

    def _restart_clock(self) -> Procedure[None]:
        self._since_us = yield from now()
        self._look_us = self._since_us + SUSPECT_US
        self._wait_us = RETRY_FIRST_US

    def _take_turn(self) -> Procedure[None]:
        """Raises Unavailable where other threads keep it longer than a job and a reopening can take."""
        settings = self.settings
        wait_us = settings.timeout_us + settings.patience_us + settings.reopen_us
        began_us = yield from now()
        try:
            yield Acquire(self.shared.turn, began_us + wait_us)
        except TimeoutError as error:
            raise Unavailable(FallbackReason.PASTE_BUSY) from error
        waited_us = (yield from now()) - began_us
        self._since_us += waited_us
        self._look_us += waited_us

    def _pause(self, refusal: Refusal) -> Procedure[None]:
        """Until the next try; not beyond the moment at which the counters are due."""
        moment_us = yield from now()
        yield from pause(max(1, min(self._wait_us, self._look_us - moment_us)))
        most_us = RETRY_CLOSED_MOST_US if refusal.closed else RETRY_BUSY_MOST_US
        self._wait_us = min(2 * self._wait_us, most_us)

    def _attempt(self, request: Request) -> Procedure[Csb | Refusal]:
        """Paste, and wait for the CSB where that was accepted. Raises Unavailable."""
        mapping, tally, timeout_us = self.shared.mapping, self.ledger.tally, self.settings.timeout_us
        if mapping is None:
            return Refusal(None, gone=True)
        mapping.tally = tally
        try:
            pending = yield from paste(mapping, request, timeout_us)
            csb = yield from wait_csb(pending, tally, timeout_us, keep=False)
        except PasteRefused as refusal:
            return Refusal(refusal, closed=refusal.fault is FaultOutcome.PASTE_FAILED)
        except RequestLost as lost:
            return Refusal(lost)
        except (KernelFailure, BusError) as failure:
            return Refusal(failure, gone=True)
        except (MessageRefused, PeerError) as failure:
            raise Unavailable(FallbackReason.DATA) from failure
        except OSError as failure:
            self.ledger.timeouts += 1
            raise Unavailable(FallbackReason.TIMEOUT) from failure
        tally.service.observe(pending.settled_us - pending.first_sent_us)
        return csb

    def _looks_suspended(self) -> Procedure[bool]:
        """After 31 ms of refusals, and every 31 ms from then on: what the counters say."""
        moment_us = yield from now()
        if moment_us < self._look_us:
            return False
        self._look_us = moment_us + SUSPECT_US
        credits = yield from read_credits(qos=self.settings.qos, timeout_us=self.settings.timeout_us)
        return credits is not None and (
            credits.used > credits.total - 1 or credits.total < self.shared.total_at_open
        )  # fmt: skip

    def _reopen(self, generation: int) -> Procedure[None]:
        """Another window in place of the lost one, unless another thread was faster. Raises Unavailable."""
        yield from self._take_turn()
        try:
            if self.shared.generation == generation:
                yield from self._reopen_now()
                yield from self._restart_clock()
        finally:
            self.shared.turn.release()

    def _reopen_now(self) -> Procedure[None]:
        shared, settings, ledger = self.shared, self.settings, self.ledger
        deadline_us = self._since_us + settings.reopen_us
        ledger.suspensions += not ledger.suspended
        ledger.suspended = True
        yield from shared.end(settings.timeout_us)
        for wait_us in cycle(REOPEN_WAITS_US):
            try:
                yield from shared.begin(settings, ledger, self.thread_id)
            except (OSError, MessageRefused, PeerError) as failure:
                yield from pause(wait_us)
                if (yield from now()) + wait_us > deadline_us:
                    raise Unavailable(FallbackReason.WINDOW_SUSPENDED) from failure
            else:
                shared.generation += 1
                ledger.reopenings += 1
                ledger.suspended = False
                return
