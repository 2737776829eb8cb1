"""The accelerator as libnxz uses it (`on_suspend="reopen"`): the process's shared window, reopened when it is lost.

One NxGzip is one stream of libnxz that is reset between calls: it has the window open from its first use to `close`.
Every job is a user of the window as well, so that the window outlives a `close` beside it. Procedures only.
"""

from __future__ import annotations

from contextlib import suppress

from lpar.client.accelerator import Accelerator, AcceleratorSettings, Unavailable
from lpar.client.errors import NxError
from lpar.client.request import Csb, Request
from lpar.client.selection import Selection
from lpar.client.shared_window import Job, SharedWindow
from lpar.client.shared_windows import SharedWindows
from lpar.client.statistics import Ledger
from lpar.client.steps import Acquire, Mutex, Procedure, now
from protocol.codes import FallbackReason, FunctionCode
from protocol.message import PasteAddress


class ReopeningAccelerator(Accelerator):
    """The use that one NxGzip makes of its process's window."""

    def __init__(self, settings: AcceleratorSettings, ledger: Ledger, windows: SharedWindows) -> None:
        super().__init__(settings, ledger)
        self.windows = windows
        self._shared: SharedWindow | None = None
        self._opening = Mutex()
        self._ended = False

    def choose(
        self, selection: Selection, length: int, thread_id: int, *, compresses: bool
    ) -> Procedure[FallbackReason | None]:
        """The decision for a whole call, before its first request: small, slow lately, or no window to be had.

        Raises NxError where the mode is strict.
        """
        reason = selection.software_reason(length)
        if selection.always_software:
            return reason
        delay = self.windows.delay(compresses=compresses)
        if reason is None and not selection.strict and delay.is_too_long:
            reason = FallbackReason.DELAY
        if reason is None:
            try:
                yield from self._check_rest()
                yield from self.hold(thread_id)
            except Unavailable as refusal:
                if selection.strict:
                    raise NxError(refusal.reason) from refusal
                reason = refusal.reason
        if reason is not None:
            delay.used_software()
        return reason

    def run(self, request: Request, thread_id: int) -> Procedure[Csb]:
        """One request; what its CSB says is the caller's affair. Raises Unavailable."""
        yield from self._check_rest()
        try:
            csb = yield from self._job(request, thread_id)
        except Unavailable as unavailable:
            if unavailable.reason is FallbackReason.TIMEOUT:
                yield from self._rest_after_silence()
            yield from self._tidy()
            raise
        yield from self._tidy()
        return csb

    def _job(self, request: Request, thread_id: int) -> Procedure[Csb]:
        """The request, as a user of the window from before its first paste until it is over, however it ends."""
        shared = yield from self._join(thread_id)
        try:
            self.ledger.requests += 1
            began_us = yield from now()
            csb = yield from Job(shared, self.settings, self.ledger, thread_id).run(request)
            self._worked()
            duration_us = (yield from now()) - began_us
            self.windows.delay(compresses=FunctionCode(request.function).compresses).observe(duration_us)
            return csb
        finally:
            self.windows.leave(shared, self.settings)

    def _join(self, thread_id: int) -> Procedure[SharedWindow]:
        """A use for one job. Without a window of the NxGzip, which was closed beside a call, it is opened for the job
        alone: nobody would close it for the call. Raises Unavailable.
        """
        shared = self._shared
        if shared is None:
            return (yield from self._open_shared(thread_id))
        shared.users += 1
        return shared

    def _tidy(self) -> Procedure[None]:
        """After a job, whose outcome matters more: who keeps the lock for so long tidies up before letting go."""
        with suppress(TimeoutError):
            yield from self.windows.tidy()

    def open(self, thread_id: int) -> Procedure[None]:
        """Have the window now. Raises KernelFailure, and OSError with EAGAIN where one credit would not stay spare."""
        try:
            yield from self.hold(thread_id)
        except Unavailable as unavailable:
            failure = unavailable.__cause__ or unavailable
        else:
            return
        raise failure  # out here, where it keeps the cause that it has

    def hold(self, thread_id: int) -> Procedure[SharedWindow]:
        """The window, opened or shared at the first use. Raises Unavailable."""
        if self._shared is not None:
            return self._shared
        try:
            yield Acquire(self._opening, (yield from now()) + self.settings.timeout_us)
        except TimeoutError as error:
            raise Unavailable(FallbackReason.TIMEOUT) from error
        try:
            if self._shared is None:
                self._shared = yield from self._open_shared(thread_id)
            return self._shared
        finally:
            self._opening.release()

    def _open_shared(self, thread_id: int) -> Procedure[SharedWindow]:
        if self._ended:
            raise Unavailable(FallbackReason.OPEN_REFUSED)
        return (yield from self.windows.open(self.settings, self.ledger, thread_id))

    @property
    def address(self) -> PasteAddress | None:
        """Where the window's pastes go; None while nothing is mapped."""
        mapping = None if self._shared is None else self._shared.mapping
        return None if mapping is None else mapping.address

    def close(self) -> Procedure[None]:
        """Use it no more; whether it is closed is for `SharedWindows.tidy` to say. Raises TimeoutError."""
        self.leave()
        yield from self.windows.tidy()

    def end(self) -> Procedure[None]:
        """Close for good: what still goes on may finish its request and opens nothing any more."""
        self._ended = True
        yield from self.close()

    def leave(self) -> None:
        """Use it no more, without a step: `close` for somebody who cannot wait."""
        shared, self._shared = self._shared, None
        if shared is not None:
            self.windows.leave(shared, self.settings)
