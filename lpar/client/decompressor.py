"""Decompression of gzip, zlib, raw deflate and mixed tagged members, each checked against its checksums and lengths."""

from __future__ import annotations

from lpar.client.codec import SoftwareCodec
from lpar.client.errors import CorruptData, NxError, OutputLimit, TruncatedData
from lpar.client.framing import (
    GZIP_MAGIC,
    GZIP_TRAILER,
    MEMBER_HEADER,
    MEMBER_MAGIC,
    ZLIB_TRAILER,
    GzipHeader,
    MemberCodec,
    MemberHeader,
    check_zlib_header,
    looks_like_zlib,
    read_gzip_header,
    read_member_header,
    take_trailer,
)
from lpar.client.inflater import Inflated, Inflater, Span
from lpar.client.page_faults import Submitter
from lpar.client.selection import Selection
from lpar.client.statistics import Ledger
from lpar.client.steps import Procedure, compute
from protocol.codes import FallbackReason


class Decompressor:
    """The decompressing half of an NxGzip."""

    def __init__(self, submitter: Submitter, codec: SoftwareCodec, ledger: Ledger, selection: Selection) -> None:
        self.codec = codec
        self.ledger = ledger
        self.selection = selection
        self.inflater = Inflater(submitter, codec, ledger, selection)

    def detected(self, data: memoryview, max_bytes: int, thread_id: int) -> Procedure[bytes]:
        """Whatever the first bytes say it is. Raw deflate cannot be told from noise and has to be named.

        Raises CorruptData, TruncatedData, OutputLimit, NxError, CodecMissing; so do the others.
        """
        if data[:2] == GZIP_MAGIC:
            return (yield from self.gzip(data, max_bytes, thread_id))
        if data[:4] == MEMBER_MAGIC:
            return (yield from self.mixed(data, max_bytes, thread_id))
        if looks_like_zlib(data):
            return (yield from self.zlib(data, max_bytes, thread_id))
        if len(data) < len(MEMBER_MAGIC):
            raise TruncatedData(f"{len(data)} bytes are no compressed data")
        raise CorruptData("neither gzip nor zlib nor tagged members")

    def gzip(self, data: memoryview, max_bytes: int, thread_id: int) -> Procedure[bytes]:
        """gzip members, anybody's; zero bytes may follow the last one."""
        if not data:
            raise TruncatedData("no bytes are no gzip member")
        software = yield from self.inflater.choose(len(data), thread_id)
        pieces: list[bytes] = []
        position, room_bytes = 0, max_bytes
        while position < len(data):
            header = read_gzip_header(data, position, self.codec.crc32)
            span = _gzip_span(data, position, header)
            stream = yield from self.inflater.inflate(span, room_bytes, software, thread_id)
            _check_end(span, stream)
            crc32, raw_bytes = take_trailer(data, stream.end, GZIP_TRAILER)
            if crc32 != stream.crc32:
                raise CorruptData("the CRC-32 of a gzip member does not fit its content")
            if raw_bytes != stream.raw_bytes & 0xFFFF_FFFF:
                raise CorruptData("the length of a gzip member does not fit its content")
            end = stream.end + GZIP_TRAILER.size
            if not any(data[end:]):
                end = len(data)
            self._framing(header.payload - position + end - stream.end, stream.handler)
            pieces += stream.pieces
            room_bytes -= stream.raw_bytes
            position = end
        return self._finished(pieces)

    def zlib(self, data: memoryview, max_bytes: int, thread_id: int) -> Procedure[bytes]:
        """One zlib stream and nothing after it."""
        software = yield from self.inflater.choose(len(data), thread_id)
        payload = check_zlib_header(data)
        span = Span(data, payload, len(data))
        stream = yield from self.inflater.inflate(span, max_bytes, software, thread_id)
        (adler32,) = take_trailer(data, stream.end, ZLIB_TRAILER)
        if adler32 != stream.adler32:
            raise CorruptData("the Adler-32 of the zlib stream does not fit its content")
        if stream.end + ZLIB_TRAILER.size != len(data):
            raise CorruptData("something follows the zlib stream")
        self._framing(payload + ZLIB_TRAILER.size, stream.handler)
        return self._finished(stream.pieces)

    def raw(self, data: memoryview, max_bytes: int, thread_id: int) -> Procedure[bytes]:
        """One raw deflate stream and nothing after it. It has no checksum: damage may go unnoticed."""
        software = yield from self.inflater.choose(len(data), thread_id)
        stream = yield from self.inflater.inflate(Span(data, 0, len(data)), max_bytes, software, thread_id)
        if stream.end != len(data):
            raise CorruptData("something follows the deflate stream")
        return self._finished(stream.pieces)

    def mixed(self, data: memoryview, max_bytes: int, thread_id: int) -> Procedure[bytes]:
        """Tagged members: deflate for the NX units, LZO for software."""
        software = yield from self.inflater.choose(len(data), thread_id)
        pieces: list[bytes] = []
        position, room_bytes, complete = 0, max_bytes, False
        while position < len(data):
            if complete:
                raise CorruptData("something follows the last member")
            header = read_member_header(data, position)
            if header.raw_bytes > room_bytes:
                raise OutputLimit(f"more than {max_bytes} bytes would come out")
            pieces += yield from self._member(data, header, software, thread_id)
            room_bytes -= header.raw_bytes
            position = header.payload + header.payload_bytes
            complete = header.last
        if not complete:
            raise TruncatedData("the last member is missing")
        return self._finished(pieces)

    def _member(
        self, data: memoryview, header: MemberHeader, software: FallbackReason | None, thread_id: int
    ) -> Procedure[list[bytes]]:
        end = header.payload + header.payload_bytes
        if header.codec is MemberCodec.LZO:
            raw = yield from self._lzo_member(data[header.payload : end], header, software)
            return [raw]
        span = Span(data, header.payload, end, True, header.raw_bytes)
        stream = yield from self.inflater.inflate(span, header.raw_bytes, software, thread_id)
        _check_end(span, stream)
        if stream.raw_bytes != header.raw_bytes or stream.crc32 != header.crc32:
            raise CorruptData("the content of a member does not fit its length and CRC-32")
        self._framing(MEMBER_HEADER.size, stream.handler)
        return stream.pieces

    def _lzo_member(
        self, payload: memoryview, header: MemberHeader, software: FallbackReason | None
    ) -> Procedure[bytes]:
        """No NX unit knows LZO."""
        if self.selection.strict:
            raise NxError(FallbackReason.DATA)
        raw = yield from compute(lambda: self.codec.lzo_decompress(payload, header.raw_bytes))
        crc32 = yield from compute(lambda: self.codec.crc32(raw))
        if crc32 != header.crc32:
            raise CorruptData("the content of an LZO member does not fit its CRC-32")
        self._framing(MEMBER_HEADER.size + len(payload), software or FallbackReason.DATA)
        return raw

    def _framing(self, length: int, handler: FallbackReason | None) -> None:
        """What stands around a stream counts as its handler's."""
        self.ledger.decompress.handled(length, handler)

    def _finished(self, pieces: list[bytes]) -> bytes:
        output = b"".join(pieces)
        self.ledger.decompress.calls += 1
        self.ledger.decompress.bytes_out += len(output)
        return output


def _gzip_span(data: memoryview, start: int, header: GzipHeader) -> Span:
    """Where the member's deflate stream is: exactly, if the member says so and that is possible."""
    if header.member_bytes is None:
        return Span(data, header.payload, len(data))
    end = start + header.member_bytes - GZIP_TRAILER.size
    if not header.payload < end <= len(data) - GZIP_TRAILER.size:
        raise CorruptData("a gzip member's length reaches outside the data")
    return Span(data, header.payload, end, True, header.raw_bytes)


def _check_end(span: Span, stream: Inflated) -> None:
    """Whether a member's lengths, where it has them, fit its content. Raises CorruptData."""
    if not span.exact:
        return
    if stream.end != span.end or span.raw_bytes not in (None, stream.raw_bytes):
        raise CorruptData("the lengths in a member's header do not fit its content")
