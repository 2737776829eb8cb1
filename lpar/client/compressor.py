"""Compression of input of any size: split into requests, each done by an NX unit or, with a reason, by software.

gzip: one member per part, so that a reader can hand each to an NX unit without scanning. zlib and raw: one stream;
its parts end byte-aligned and refer back to 32 KiB of history. Mixed with LZO: one tagged member per part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lpar.client.accelerator import Unavailable
from lpar.client.codec import SoftwareCodec
from lpar.client.errors import NxError
from lpar.client.framing import (
    EMPTY_FINAL_BLOCK,
    ZLIB_HEADER,
    ZLIB_TRAILER,
    MemberCodec,
    gzip_member,
    stored_blocks,
    stored_bytes,
    tagged_member,
)
from lpar.client.pace import Pace
from lpar.client.page_faults import Served, Submitter
from lpar.client.request import Request
from lpar.client.selection import Selection
from lpar.client.statistics import Ledger
from lpar.client.steps import Procedure, compute
from protocol.codes import CompletionCode, FallbackReason, FunctionCode
from protocol.link import BULK_LIMIT_BYTES

TARGET_MARGIN_BYTES = 4_096
_GOOD = (CompletionCode.OK, CompletionCode.DATA_LENGTH, CompletionCode.TPBC_GREATER)


@dataclass(frozen=True, slots=True)
class Checksums:
    crc32: int = 0
    adler32: int = 1


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of the input, deflated. `closed`: the stream has its last block."""

    deflated: bytes
    raw_bytes: int
    checksums: Checksums
    closed: bool


@dataclass(frozen=True, slots=True)
class Stream:
    """A whole deflate stream and the checksums of its content."""

    deflated: bytes
    checksums: Checksums


class Compressor:
    """The compressing half of an NxGzip."""

    def __init__(self, submitter: Submitter, codec: SoftwareCodec, ledger: Ledger, selection: Selection) -> None:
        self.submitter = submitter
        self.codec = codec
        self.ledger = ledger
        self.selection = selection
        self.pace = Pace()

    def gzip(self, data: memoryview, thread_id: int) -> Procedure[bytes]:
        """gzip members one after the other. Raises NxError where the mode is strict; so do the others."""
        software, limit_bytes = yield from self._plan(data, thread_id)
        members: list[bytes] = []
        for start in range(0, max(1, len(data)), limit_bytes):
            part = data[start : start + limit_bytes]
            stream = yield from self._stream(part, limit_bytes, software, thread_id)
            members.append(gzip_member(stream.deflated, stream.checksums.crc32, len(part), self.codec.crc32))
        return self._finished(members)

    def zlib(self, data: memoryview, thread_id: int) -> Procedure[bytes]:
        """One zlib stream."""
        software, limit_bytes = yield from self._plan(data, thread_id)
        stream = yield from self._stream(data, limit_bytes, software, thread_id)
        return self._finished([ZLIB_HEADER, stream.deflated, ZLIB_TRAILER.pack(stream.checksums.adler32)])

    def raw(self, data: memoryview, thread_id: int) -> Procedure[bytes]:
        """One deflate stream without anything around it."""
        software, limit_bytes = yield from self._plan(data, thread_id)
        stream = yield from self._stream(data, limit_bytes, software, thread_id)
        return self._finished([stream.deflated])

    def mixed(self, data: memoryview, thread_id: int) -> Procedure[bytes]:
        """Tagged members: deflate from NX units, LZO from software."""
        software, limit_bytes = yield from self._plan(data, thread_id)
        members: list[bytes] = []
        position = 0
        while position < len(data) or not members:
            part_bytes = limit_bytes if software else min(limit_bytes, self.pace.source_bytes)
            part = data[position : position + part_bytes]
            member, raw_bytes = yield from self._member(part, position + len(part) == len(data), software, thread_id)
            members.append(member)
            position += raw_bytes
        return self._finished(members)

    def _plan(self, data: memoryview, thread_id: int) -> Procedure[tuple[FallbackReason | None, int]]:
        """Why this call goes to software altogether, if it does, and the size of a part."""
        limit_bytes = yield from self.submitter.request_limit()
        software = yield from self.submitter.choose(self.selection, len(data), thread_id, compresses=True)
        return software, limit_bytes

    def _finished(self, parts: list[bytes]) -> bytes:
        output = b"".join(parts)
        self.ledger.compress.calls += 1
        self.ledger.compress.bytes_out += len(output)
        return output

    def _stream(
        self, data: memoryview, limit_bytes: int, software: FallbackReason | None, thread_id: int
    ) -> Procedure[Stream]:
        """One deflate stream, in as many pieces as it takes."""
        pieces: list[bytes] = []
        checksums, position, closed = Checksums(), 0, False
        pace = Pace() if software else self.pace
        while position < len(data):
            history = bytes(data[max(0, position - pace.history_bytes) : position])
            source = data[position : position + min(pace.source_bytes, limit_bytes - len(history))]
            final = position + len(source) == len(data)
            piece = yield from self._piece(source, history, checksums, software, thread_id, final=final)
            pieces.append(piece.deflated)
            position += piece.raw_bytes
            checksums, closed = piece.checksums, piece.closed
        if not closed:
            pieces.append(EMPTY_FINAL_BLOCK)
        return Stream(b"".join(pieces), checksums)

    def _piece(
        self,
        source: memoryview,
        history: bytes,
        before: Checksums,
        software: FallbackReason | None,
        thread_id: int,
        *,
        final: bool,
    ) -> Procedure[Piece]:
        """The source, or a first part of it, deflated."""
        reason = software
        if reason is None:
            try:
                piece = yield from self._on_nx(source, history, before, thread_id, final=final)
            except Unavailable as refusal:
                reason = self._fall_back(refusal)
            else:
                self.ledger.compress.handled(piece.raw_bytes, None)
                return piece
        piece = yield from compute(lambda: self._in_software(source, history, before, final=final))
        self.ledger.compress.handled(piece.raw_bytes, reason)
        return piece

    def _member(
        self, source: memoryview, last: bool, software: FallbackReason | None, thread_id: int
    ) -> Procedure[tuple[bytes, int]]:
        """A tagged member of the source or a first part of it, and how much of it that is."""
        reason = software
        if reason is None and source:
            try:
                piece = yield from self._on_nx(source, b"", Checksums(), thread_id, final=True)
            except Unavailable as refusal:
                reason = self._fall_back(refusal)
            else:
                self.ledger.compress.handled(piece.raw_bytes, None)
                deflated = piece.deflated if piece.closed else piece.deflated + EMPTY_FINAL_BLOCK
                last = last and piece.raw_bytes == len(source)
                crc32 = piece.checksums.crc32
                return tagged_member(MemberCodec.DEFLATE, deflated, piece.raw_bytes, crc32, last=last), piece.raw_bytes
        member = yield from compute(lambda: self._software_member(source, last=last))
        if reason is not None:
            self.ledger.compress.handled(len(source), reason)
        return member, len(source)

    def _fall_back(self, refusal: Unavailable) -> FallbackReason:
        """Software takes over, where it may. Raises NxError."""
        if self.selection.strict:
            raise NxError(refusal.reason) from refusal
        return refusal.reason

    def _on_nx(
        self, source: memoryview, history: bytes, before: Checksums, thread_id: int, *, final: bool
    ) -> Procedure[Piece]:
        """One request; a larger target where it was too small. Raises Unavailable."""
        function = FunctionCode.COMPRESS_RESUME_DHT if history else FunctionCode.COMPRESS_DHT
        target_bytes = len(source) + len(source) // 4 + TARGET_MARGIN_BYTES
        request = Request(function, bytes(source), target_bytes, history, before.crc32, before.adler32, final)
        submission = self.submitter.submission(thread_id)
        while True:
            served = yield from submission.run(request)
            request = served.request
            if served.csb.code is not CompletionCode.TARGET_SPACE or request.target_bytes >= BULK_LIMIT_BYTES:
                break
            request = replace(request, target_bytes=min(2 * request.target_bytes, BULK_LIMIT_BYTES))
        piece = self._accepted(served, source)
        self.pace.learn(len(source), piece.raw_bytes)
        return piece

    def _accepted(self, served: Served, source: memoryview) -> Piece:
        """What a CSB says was done. Raises Unavailable where that is nothing usable."""
        csb, request = served.csb, served.request
        raw_bytes = csb.processed_bytes - len(request.history)
        whole = raw_bytes == len(request.source)
        partial = csb.is_partial and 0 < raw_bytes < len(request.source)
        if csb.code not in _GOOD or csb.is_terminated or not (whole or partial):
            raise Unavailable(FallbackReason.DATA)
        closed = request.final and whole
        deflated = csb.target
        if len(deflated) > stored_bytes(raw_bytes):
            deflated = stored_blocks(source[:raw_bytes], final=closed)
            self.ledger.stored_parts += 1
        return Piece(deflated, raw_bytes, Checksums(csb.crc32, csb.adler32), closed)

    def _in_software(self, source: memoryview, history: bytes, before: Checksums, *, final: bool) -> Piece:
        codec = self.codec
        after = Checksums(codec.crc32(source, before.crc32), codec.adler32(source, before.adler32))
        return Piece(codec.deflate(source, history, final=final), len(source), after, final)

    def _software_member(self, source: memoryview, *, last: bool) -> bytes:
        """LZO, or stored where LZO would grow it or there is nothing."""
        crc32 = self.codec.crc32(source)
        payload, kind = self.codec.lzo_compress(source) if source else b"", MemberCodec.LZO
        if not source or len(payload) >= stored_bytes(len(source)):
            payload, kind = stored_blocks(source, final=True), MemberCodec.DEFLATE
        return tagged_member(kind, payload, len(source), crc32, last=last)
