"""One deflate stream, decompressed: by an NX unit in resumed pieces, or by software.

Where the accelerator is lost half-way, software starts at the stream's beginning and skips what had come out already:
what an NX unit knew of the stream is not to be had.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lpar.client.accelerator import Unavailable
from lpar.client.codec import Inflation, SoftwareCodec
from lpar.client.errors import CorruptData, NxError, OutputLimit, TruncatedData
from lpar.client.pace import Pace
from lpar.client.page_faults import Submitter
from lpar.client.request import Csb, Request
from lpar.client.selection import Selection
from lpar.client.statistics import Ledger
from lpar.client.steps import Procedure, compute
from protocol.codes import CompletionCode, FallbackReason, FunctionCode
from protocol.link import BULK_LIMIT_BYTES

SOURCE_FIRST_BYTES = 65_536
"""The first request of a stream whose length is not known brings this much source; later ones more."""
SOURCE_LEAST_BYTES = 300
"""libnxz's floor when it makes the source smaller to fit the target."""
_BAD_DATA = (CompletionCode.BAD_HUFFMAN_CODE, CompletionCode.INVALID_DISTANCE, CompletionCode.INVALID_DHT)


@dataclass(slots=True)
class Inflated:
    """A stream's content so far. `end` is where its compressed form ends, `handler` who finished it (None: NX).

    `resume` is the unit's token for the rest. At `pause_bytes` of content, where that is given, work pauses.
    """

    end: int
    pieces: list[bytes] = field(default_factory=list)
    raw_bytes: int = 0
    crc32: int = 0
    adler32: int = 1
    handler: FallbackReason | None = None
    ended: bool = False
    resume: bytes = b""
    pause_bytes: int | None = None

    @property
    def is_paused(self) -> bool:
        """Whether there is as much content as was asked for, for now."""
        return self.pause_bytes is not None and self.raw_bytes >= self.pause_bytes

    def add(self, piece: bytes, room_bytes: int) -> None:
        """Take output in. Raises OutputLimit."""
        self.raw_bytes += len(piece)
        if self.raw_bytes > room_bytes:
            raise OutputLimit("more than the limit of bytes would come out")
        self.pieces.append(piece)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a stream is: it starts at `start` of `data` and ends at or before `end`.

    `exact`: it ends there. `raw_bytes` is what it is said to hold, where that is known.
    """

    data: memoryview
    start: int
    end: int
    exact: bool = False
    raw_bytes: int | None = None


class Inflater:
    """Decompresses streams and counts who did it."""

    def __init__(self, submitter: Submitter, codec: SoftwareCodec, ledger: Ledger, selection: Selection) -> None:
        self.submitter = submitter
        self.codec = codec
        self.ledger = ledger
        self.selection = selection
        self.pace = Pace()

    def choose(self, length: int, thread_id: int) -> Procedure[FallbackReason | None]:
        """Why a call with so much input goes to software altogether. Raises NxError where the mode is strict."""
        return self.submitter.choose(self.selection, length, thread_id, compresses=False)

    def inflate(
        self, span: Span, room_bytes: int, software: FallbackReason | None, thread_id: int
    ) -> Procedure[Inflated]:
        """The stream's content. Raises CorruptData, TruncatedData, OutputLimit, NxError where the mode is strict."""
        stream = Inflated(span.start)
        reason = software
        if reason is None:
            try:
                yield from self.on_nx(span, stream, room_bytes, thread_id)
            except Unavailable as refusal:
                if self.selection.strict:
                    raise NxError(refusal.reason) from refusal
                reason = refusal.reason
            else:
                return stream
        yield from self._in_software(span, stream, room_bytes, reason)
        return stream

    def _in_software(self, span: Span, stream: Inflated, room_bytes: int, reason: FallbackReason) -> Procedure[None]:
        delivered_bytes, done = stream.raw_bytes, stream.end
        self.ledger.restarts += bool(delivered_bytes)
        source = span.data[span.start : span.end]
        result: Inflation = yield from compute(
            lambda: self.codec.inflate(source, delivered_bytes, room_bytes - delivered_bytes)
        )
        stream.end = span.start + result.consumed_bytes
        if result.skipped_bytes != delivered_bytes or stream.end < done:
            raise CorruptData("an NX unit gave more output than the stream holds")
        stream.add(result.output, room_bytes)
        stream.crc32, stream.adler32 = result.crc32, result.adler32
        stream.handler, stream.ended = reason, True
        self.ledger.decompress.handled(stream.end - done, reason)

    def on_nx(self, span: Span, stream: Inflated, room_bytes: int, thread_id: int) -> Procedure[None]:
        """Requests until the stream ends or pauses. Raises TruncatedData, CorruptData, Unavailable."""
        limit_bytes = yield from self.submitter.request_limit()
        source_bytes = limit_bytes if span.exact else min(SOURCE_FIRST_BYTES, limit_bytes)
        known = span.raw_bytes is not None and span.raw_bytes < limit_bytes
        target_bytes = max(1, span.raw_bytes or 0) if known else limit_bytes
        submission = self.submitter.submission(thread_id)
        while not (stream.ended or stream.is_paused):
            end = min(span.end, stream.end + min(source_bytes, self.pace.source_bytes))
            wanted = _request(stream, span.data[stream.end : end], target_bytes)
            served = yield from submission.run(wanted)
            csb, request = served.csb, served.request
            if csb.code is CompletionCode.TARGET_SPACE:
                target_bytes, source_bytes = _with_more_room(request, cut=request is not wanted)
                continue
            _check(csb, len(request.source))
            stream.add(csb.target, room_bytes)
            stream.end += csb.processed_bytes
            stream.crc32, stream.adler32, stream.ended, stream.resume = csb.crc32, csb.adler32, csb.ended, csb.resume
            self.ledger.decompress.handled(csb.processed_bytes, None)
            if not stream.ended:
                _check_progress(csb, stream, span)
                self.pace.learn(len(wanted.source), csb.processed_bytes)
                source_bytes, target_bytes = min(4 * source_bytes, limit_bytes), limit_bytes
                submission = self.submitter.submission(thread_id)


def _request(stream: Inflated, source: memoryview, target_bytes: int) -> Request:
    function = FunctionCode.DECOMPRESS_RESUME if stream.resume else FunctionCode.DECOMPRESS
    return Request(
        function, bytes(source), target_bytes, crc32=stream.crc32, adler32=stream.adler32, resume=stream.resume
    )  # fmt: skip


def _with_more_room(request: Request, *, cut: bool) -> tuple[int, int]:
    """CC 13: a larger target, then less source, as libnxz does. Raises Unavailable at the end of both.

    Where page faults have cut the request the target stays as small as they made it while less source is an answer.
    """
    target_bytes, source_bytes = request.target_bytes, len(request.source)
    if target_bytes < BULK_LIMIT_BYTES and not (cut and source_bytes > SOURCE_LEAST_BYTES):
        return min(2 * target_bytes, BULK_LIMIT_BYTES), source_bytes
    if source_bytes <= SOURCE_LEAST_BYTES:
        raise Unavailable(FallbackReason.DATA)
    return target_bytes, source_bytes // 2


def _check(csb: Csb, source_bytes: int) -> None:
    """Raises CorruptData for what the unit found wrong with the data, Unavailable for any other trouble."""
    if csb.code in _BAD_DATA:
        raise CorruptData(f"the deflate stream is damaged: {csb.code.meaning}")
    good = csb.code in (CompletionCode.OK, CompletionCode.DATA_LENGTH) and not csb.is_terminated
    if not good or csb.processed_bytes > source_bytes:
        raise Unavailable(FallbackReason.DATA)


def _check_progress(csb: Csb, stream: Inflated, span: Span) -> None:
    """The stream goes on: there must be source left, a token to go on with, and something must have happened."""
    if stream.end >= span.end:
        raise TruncatedData("the deflate stream has no end")
    if not csb.resume or not (csb.processed_bytes or csb.target):
        raise Unavailable(FallbackReason.DATA)
