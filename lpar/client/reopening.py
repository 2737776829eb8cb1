"""The accelerator as libnxz uses it (`on_suspend="reopen"`): the process's shared window, reopened when it is lost.

One NxGzip is one stream of libnxz that is reset between calls: it has the window open from its first use to `close`.
Procedures only.
"""

from __future__ import annotations

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
        shared = yield from self.hold(thread_id)
        self.ledger.requests += 1
        began_us = yield from now()
        try:
            csb = yield from Job(shared, self.settings, self.ledger, thread_id).run(request)
        except Unavailable as unavailable:
            if unavailable.reason is FallbackReason.TIMEOUT:
                yield from self._rest_after_silence()
            raise
        self._worked()
        duration_us = (yield from now()) - began_us
        self.windows.delay(compresses=FunctionCode(request.function).compresses).observe(duration_us)
        return csb

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
                self._shared = yield from self.windows.open(self.settings, self.ledger, thread_id)
            return self._shared
        finally:
            self._opening.release()

    @property
    def address(self) -> PasteAddress | None:
        """Where the window's pastes go; None while nothing is mapped."""
        mapping = None if self._shared is None else self._shared.mapping
        return None if mapping is None else mapping.address

    def close(self) -> Procedure[None]:
        """Use it no more; whether it is closed is for `SharedWindows.close` to say."""
        shared, self._shared = self._shared, None
        if shared is not None:
            yield from self.windows.close(shared, self.settings)
