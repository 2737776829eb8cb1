"""Requests whose pages are not all in memory: touch, paste again, then less at a time, as libnxz does. Procedures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lpar.client.accelerator import Accelerator, Unavailable
from lpar.client.request import Csb, Request
from lpar.client.selection import Selection
from lpar.client.steps import Procedure, now
from protocol.codes import FallbackReason, FunctionCode

Paging = Callable[[Request], Request]
"""Which pages are absent when a request gets to its unit: called for each paste with every page in memory."""
SOURCE_LEAST_BYTES = 4_096
TARGET_LEAST_BYTES = 16_384
"""Nothing is halved below these: enough target for that much source, however badly it compresses."""


@dataclass(frozen=True, slots=True)
class Served:
    """A request as it was carried out in the end, perhaps with less source and target than asked for."""

    request: Request
    csb: Csb


class Submission:
    """One request of a caller, with all the tries it takes.

    The first fault is answered by touching every page, each later one by halving source and target as well; after
    `fault_timeout_us` of faults it is given up.
    """

    def __init__(self, accelerator: Accelerator, paging: Paging | None, fault_timeout_us: int, thread_id: int) -> None:
        self.accelerator = accelerator
        self.paging = paging
        self.fault_timeout_us = fault_timeout_us
        self.thread_id = thread_id
        self._faults = 0
        self._give_up_us = 0

    def run(self, request: Request) -> Procedure[Served]:
        """The request until it does not fault. Raises Unavailable (PAGE_FAULT at the deadline)."""
        while True:
            csb = yield from self.accelerator.run(self._paged(request), self.thread_id)
            if not csb.is_page_fault:
                return Served(request, csb)
            yield from self._faulted()
            if self._faults > 1:
                request = halved(request)

    def _paged(self, request: Request) -> Request:
        """What the paging says about the pages and the status block's place; nothing else of the request changes."""
        if self.paging is None:
            return request
        paged = self.paging(request)
        return replace(
            request,
            absent_source=paged.absent_source,
            absent_target=paged.absent_target,
            csb_present=paged.csb_present,
            csb_address=paged.csb_address,
        )

    def _faulted(self) -> Procedure[None]:
        moment_us = yield from now()
        self.accelerator.ledger.page_faults += 1
        self._faults += 1
        if self._faults == 1:
            self._give_up_us = moment_us + self.fault_timeout_us
        if moment_us >= self._give_up_us:
            raise Unavailable(FallbackReason.PAGE_FAULT)


class Submitter:
    """Makes the submissions of one NxGzip."""

    def __init__(self, accelerator: Accelerator, paging: Paging | None, fault_timeout_us: int) -> None:
        self.accelerator = accelerator
        self.paging = paging
        self.fault_timeout_us = fault_timeout_us

    def request_limit(self) -> Procedure[int]:
        """The largest source of one request, in bytes."""
        return self.accelerator.request_limit()

    def choose(
        self, selection: Selection, length: int, thread_id: int, *, compresses: bool
    ) -> Procedure[FallbackReason | None]:
        """Why a call with so much input goes to software altogether. Raises NxError where the mode is strict."""
        return self.accelerator.choose(selection, length, thread_id, compresses=compresses)

    def submission(self, thread_id: int) -> Submission:
        """One caller's next request."""
        return Submission(self.accelerator, self.paging, self.fault_timeout_us, thread_id)


def halved(request: Request) -> Request:
    """Half of the source and of the target, down to the least. What compresses only part does not end the stream."""
    source = request.source[: max(len(request.source) // 2, min(len(request.source), SOURCE_LEAST_BYTES))]
    target_bytes = max(request.target_bytes // 2, min(request.target_bytes, TARGET_LEAST_BYTES))
    cut = len(source) < len(request.source)
    final = request.final and not (cut and request.function <= FunctionCode.COMPRESS_RESUME_DHT_COUNT)
    return replace(request, source=source, target_bytes=target_bytes, final=final)
