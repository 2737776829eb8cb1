"""gzip members decompressed piece by piece, so that a member may be larger than memory. Pure.

Where the accelerator is lost within a member, software starts at the member's beginning: the reader asks for its source
again (`Piece.again`) and skips what it has already given out, after checking that it is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lpar.client.accelerator import Unavailable
from lpar.client.codec import Bytes
from lpar.client.errors import CorruptData, NxError, TruncatedData
from lpar.client.framing import GZIP_MAGIC, GZIP_TRAILER, GzipHeader, read_gzip_header
from lpar.client.inflater import Inflated, Inflater, Span
from lpar.client.steps import Procedure, compute
from protocol.codes import FallbackReason

PART_BYTES = 1 << 20
"""Source of one piece, and output of one step in software. An NX unit's output is bounded by its target."""
HEADER_LIMIT_BYTES = 1 << 18
"""An extra field has at most 64 KiB; names and comments are held to what is left of this."""
NO_LIMIT_BYTES = 1 << 62


class StreamCodec(Protocol):
    """One raw deflate stream in software."""

    @property
    def ended(self) -> bool:
        """Whether the last block has been decompressed."""

    def decompress(self, source: Bytes, most_bytes: int) -> tuple[bytes, int]:
        """Output, and how much of the source it took. Raises CorruptData."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Output of one step. `again`: give the member's source from the end of its header on once more."""

    output: bytes
    consumed_bytes: int
    again: bool = False


@dataclass(slots=True)
class Member:
    """A member under way. `payload_bytes` and `raw_bytes` are what its header says, where it is ours.

    `stream` is what the NX unit has done, without its output; `decoder` is there once software does it.
    `consumed_bytes` is the place in the deflate stream, `handled_bytes` how much of it is accounted for.
    `raw_done_bytes` and `crc32` belong to what was given out; in software `skip_bytes` of it are still to come again.
    """

    framing_bytes: int
    payload_bytes: int | None
    raw_bytes: int | None
    reason: FallbackReason | None
    consumed_bytes: int = 0
    handled_bytes: int = 0
    raw_done_bytes: int = 0
    crc32: int = 0
    ended: bool = False
    stream: Inflated = field(default_factory=lambda: Inflated(0))
    decoder: StreamCodec | None = None
    skip_bytes: int = 0
    skipped_crc32: int = 0

    @property
    def wanted_bytes(self) -> int:
        """How much source the next piece takes at most."""
        left_bytes = PART_BYTES if self.payload_bytes is None else self.payload_bytes - self.consumed_bytes
        return min(PART_BYTES, left_bytes)


class MemberReader:
    """The members of one gzip file, in order: `header`, `begin`, `piece` until it has ended, `end`."""

    def __init__(self, inflater: Inflater, software: Callable[[], StreamCodec]) -> None:
        self.inflater = inflater
        self.software = software
        self.raw_bytes = 0

    def header(self, data: memoryview, offset: int, *, at_end: bool) -> GzipHeader | None:
        """The header at the start of `data`, which is at `offset` of the file; None where more is needed.

        Raises CorruptData, TruncatedData.
        """
        if not data[:3].tobytes().startswith((GZIP_MAGIC + b"\x08")[: len(data)]):
            raise CorruptData(f"no gzip member of deflate data at byte {offset}")
        try:
            return read_gzip_header(data, 0, self.inflater.codec.crc32)
        except TruncatedData:
            if at_end:
                raise TruncatedData("the data ends within a gzip header") from None
            if len(data) >= HEADER_LIMIT_BYTES:
                raise CorruptData(f"a gzip header of more than {HEADER_LIMIT_BYTES} bytes at byte {offset}") from None
            return None

    def begin(self, header: GzipHeader, length: int) -> Member:
        """The member behind a header; `length` is how much of the file is known to be there. Raises CorruptData."""
        payload_bytes = None
        if header.member_bytes is not None:
            payload_bytes = header.member_bytes - header.payload - GZIP_TRAILER.size
            if payload_bytes <= 0:
                raise CorruptData("the length in a member's header does not even hold the header")
        reason = self.inflater.selection.software_reason(length)
        decoder = self.software() if reason is not None else None
        return Member(header.payload, payload_bytes, header.raw_bytes, reason, decoder=decoder)

    def piece(self, member: Member, source: memoryview, thread_id: int, *, at_end: bool) -> Procedure[Piece]:
        """One step with the next source, of which `Piece` says how much it took; `at_end`: there is no more after it.

        Raises CorruptData, TruncatedData, NxError where the mode is strict.
        """
        whole_bytes = member.payload_bytes
        is_last = at_end or (whole_bytes is not None and member.consumed_bytes + len(source) >= whole_bytes)
        if member.decoder is not None:
            made = yield from self._in_software(member, member.decoder, source)
        elif is_last and not source:
            made = Piece(b"", 0)
        else:
            try:
                if not member.consumed_bytes:
                    yield from self._choose(thread_id)
                made = yield from self._on_nx(member, source, thread_id)
            except Unavailable as refusal:
                return self._begin_again(member, refusal)
        member.consumed_bytes += made.consumed_bytes
        is_stuck = made.consumed_bytes == len(source) and not made.output and not member.ended
        if is_stuck and is_last:
            if not at_end:
                raise CorruptData("the lengths in a member's header do not fit its content")
            raise TruncatedData("the deflate stream has no end")
        return made

    def end(self, member: Member, trailer: bytes) -> None:
        """Check the member against its trailer and its header. Raises CorruptData, TruncatedData."""
        if len(trailer) < GZIP_TRAILER.size:
            raise TruncatedData("the data ends within the trailer of a gzip member")
        crc32, raw_bytes = GZIP_TRAILER.unpack(trailer)
        if member.skip_bytes:
            raise CorruptData("an NX unit gave more output than the stream holds")
        if crc32 != member.crc32:
            raise CorruptData("the CRC-32 of a gzip member does not fit its content")
        if raw_bytes != member.raw_done_bytes & 0xFFFF_FFFF:
            raise CorruptData("the length of a gzip member does not fit its content")
        payload_fits = member.payload_bytes in (None, member.consumed_bytes)
        if not payload_fits or member.raw_bytes not in (None, member.raw_done_bytes):
            raise CorruptData("the lengths in a member's header do not fit its content")
        self.raw_bytes += member.raw_done_bytes
        self._account(member.framing_bytes + len(trailer), member.reason)

    def padding(self, member: Member, length: int) -> None:
        """Zero bytes after the last member count as its framing."""
        self._account(length, member.reason)

    def finished(self) -> None:
        """The file is over."""
        self.inflater.ledger.decompress.calls += 1
        self.inflater.ledger.decompress.bytes_out += self.raw_bytes

    def _choose(self, thread_id: int) -> Procedure[None]:
        """Before a member's first request: raises Unavailable where it had better stay in software."""
        reason = yield from self.inflater.choose(NO_LIMIT_BYTES, thread_id)
        if reason is not None:
            raise Unavailable(reason)

    def _on_nx(self, member: Member, source: memoryview, thread_id: int) -> Procedure[Piece]:
        """One request, or as many as it takes until something comes out."""
        stream = member.stream
        stream.end, stream.pieces, stream.pause_bytes = 0, [], stream.raw_bytes + 1
        whole = member.consumed_bytes == 0 and member.payload_bytes == len(source)
        span = Span(source, 0, len(source), True, member.raw_bytes if whole else None)
        try:
            yield from self.inflater.on_nx(span, stream, NO_LIMIT_BYTES, thread_id)
        except TruncatedData as truncated:
            if not stream.resume:
                raise Unavailable(FallbackReason.DATA) from truncated
        finally:
            member.handled_bytes += stream.end
        member.ended = stream.ended
        output = b"".join(stream.pieces)
        member.crc32 = yield from compute(lambda: self.inflater.codec.crc32(output, member.crc32))
        member.raw_done_bytes += len(output)
        return Piece(output, stream.end)

    def _begin_again(self, member: Member, refusal: Unavailable) -> Piece:
        """Software takes over, where it may. Raises NxError."""
        if self.inflater.selection.strict:
            raise NxError(refusal.reason) from refusal
        self.inflater.ledger.restarts += bool(member.raw_done_bytes)
        member.reason = refusal.reason
        member.consumed_bytes = 0
        member.skip_bytes = member.raw_done_bytes
        member.decoder = self.software()
        return Piece(b"", 0, again=True)

    def _in_software(self, member: Member, decoder: StreamCodec, source: memoryview) -> Procedure[Piece]:
        crc = self.inflater.codec.crc32
        made, consumed_bytes = yield from compute(lambda: decoder.decompress(source, PART_BYTES))
        member.ended = decoder.ended
        skipped_bytes = min(member.skip_bytes, len(made))
        if skipped_bytes:
            known = memoryview(made)[:skipped_bytes]
            member.skipped_crc32 = yield from compute(lambda: crc(known, member.skipped_crc32))
            member.skip_bytes -= skipped_bytes
            if not member.skip_bytes and member.skipped_crc32 != member.crc32:
                raise CorruptData("an NX unit gave other output than the stream holds")
        output = made[skipped_bytes:]
        member.crc32 = yield from compute(lambda: crc(output, member.crc32))
        member.raw_done_bytes += len(output)
        place = member.consumed_bytes + consumed_bytes
        self._account(max(0, place - member.handled_bytes), member.reason)
        member.handled_bytes = max(member.handled_bytes, place)
        return Piece(output, consumed_bytes)

    def _account(self, length: int, handler: FallbackReason | None) -> None:
        self.inflater.ledger.decompress.handled(length, handler)


def check_members(packed: memoryview, content: memoryview, crc32: Callable[[Bytes], int]) -> None:
    """Whether members of ours bear the lengths and checksums of this content. Raises CorruptData where not.

    The checksum in a trailer is the NX unit's: so bytes that were damaged on their way to it are found here.
    """
    position = raw_position = 0
    while position < len(packed):
        header = read_gzip_header(packed[position:], 0, crc32)
        assert header.member_bytes is not None
        assert header.raw_bytes is not None
        part = content[raw_position : raw_position + header.raw_bytes]
        position, raw_position = position + header.member_bytes, raw_position + header.raw_bytes
        found, raw_bytes = GZIP_TRAILER.unpack(packed[position - GZIP_TRAILER.size : position])
        if (found, raw_bytes) != (crc32(part), len(part)):
            raise CorruptData("what was compressed is not what was given: the checksums differ")
    if raw_position != len(content):
        raise CorruptData(f"{raw_position} bytes were compressed, not {len(content)}")
