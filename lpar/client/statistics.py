"""What became of the bytes: counters of one NxGzip, and the frozen picture its user gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lpar.client.tally import PasteTally
from protocol.codes import FallbackReason
from protocol.metrics import Distribution, Histogram


@dataclass(frozen=True, slots=True)
class DirectionStatistics:
    """One direction. At every moment bytes_in = nx_bytes + the sum of `fallback`.

    `bytes_in` counts input (raw bytes when compressing, compressed ones with all framing when decompressing) as its
    parts are finished; `fallback` says how much of it software did, by reason. `bytes_out` counts finished calls.
    """

    calls: int
    bytes_in: int
    bytes_out: int
    nx_bytes: int
    fallback: Mapping[FallbackReason, int]

    @property
    def software_bytes(self) -> int:
        """Input that software handled, for whatever reason."""
        return sum(self.fallback.values())

    @property
    def is_balanced(self) -> bool:
        """Whether every byte has exactly one handler."""
        return self.bytes_in == self.nx_bytes + self.software_bytes


@dataclass(frozen=True, slots=True)
class Statistics:
    """A frozen picture of one NxGzip.

    `suspensions` counts changes from working to closed for lack of credit, `resumptions` the way back on the same
    window, `reopenings` windows opened in place of suspended or dead ones, `restarts` streams that software began
    anew after an NX unit had done part of them, `stored_parts` parts that deflate would have made larger. `faults` are
    those of the paste address, `page_faults` those of a request's own pages. `request_time` is how long requests took
    from paste to CSB, `open_time` how long windows took to open.
    """

    compress: DirectionStatistics
    decompress: DirectionStatistics
    requests: int
    pastes: int
    accepted: int
    refusals: int
    faults: int
    remaps: int
    failed_faults: int
    lost_requests: int
    repeats: int
    opens: int
    open_refusals: int
    suspensions: int
    resumptions: int
    reopenings: int
    timeouts: int
    restarts: int
    stored_parts: int
    page_faults: int
    suspended: bool
    request_time: Distribution
    open_time: Distribution


@dataclass(slots=True)
class DirectionLedger:
    """The counters of one direction."""

    calls: int = 0
    bytes_out: int = 0
    nx_bytes: int = 0
    fallback: dict[FallbackReason, int] = field(default_factory=lambda: dict.fromkeys(FallbackReason, 0))
    bytes_in: int = 0

    def handled(self, length: int, reason: FallbackReason | None) -> None:
        """Input was dealt with: on an NX unit, or in software for a reason."""
        self.bytes_in += length
        if reason is None:
            self.nx_bytes += length
        else:
            self.fallback[reason] += length

    def picture(self) -> DirectionStatistics:
        return DirectionStatistics(self.calls, self.bytes_in, self.bytes_out, self.nx_bytes, dict(self.fallback))


@dataclass(slots=True)
class Ledger:
    """All counters of one NxGzip."""

    compress: DirectionLedger = field(default_factory=DirectionLedger)
    decompress: DirectionLedger = field(default_factory=DirectionLedger)
    tally: PasteTally = field(default_factory=PasteTally)
    requests: int = 0
    opens: int = 0
    open_refusals: int = 0
    suspensions: int = 0
    resumptions: int = 0
    reopenings: int = 0
    timeouts: int = 0
    restarts: int = 0
    stored_parts: int = 0
    page_faults: int = 0
    suspended: bool = False
    opening: Histogram = field(default_factory=Histogram)

    def picture(self) -> Statistics:
        """What has been counted so far."""
        tally = self.tally
        return Statistics(
            compress=self.compress.picture(),
            decompress=self.decompress.picture(),
            requests=self.requests,
            pastes=tally.pastes,
            accepted=tally.accepted,
            refusals=tally.refused,
            faults=tally.faults,
            remaps=tally.remaps,
            failed_faults=tally.failed_faults,
            lost_requests=tally.lost,
            repeats=tally.repeats,
            opens=self.opens,
            open_refusals=self.open_refusals,
            suspensions=self.suspensions,
            resumptions=self.resumptions,
            reopenings=self.reopenings,
            timeouts=self.timeouts,
            restarts=self.restarts,
            stored_parts=self.stored_parts,
            page_faults=self.page_faults,
            suspended=self.suspended,
            request_time=tally.service.picture(),
            open_time=self.opening.picture(),
        )
