"""What stands around deflate data: gzip members, zlib streams, stored blocks and the tagged members of mixed streams.

A gzip member of ours has an extra field `VB` with its own length and that of its content (RFC 1952, section 2.3.1.1),
so that a reader finds the next member without decompressing this one; other readers skip it. The header has its own
checksum, so that no flipped bit goes unnoticed.

A tagged member: magic `VBM1`, a tag byte (codec, and 0x80 on the last member), then big-endian, 32 bits each: raw
length, CRC-32 of the raw bytes, length of the payload; then the payload.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from lpar.client.codec import Bytes
from lpar.client.errors import CorruptData, TruncatedData

GZIP_MAGIC = b"\x1f\x8b"
DEFLATE_METHOD = 8
UNKNOWN_SYSTEM = 255
EXTRA_ID = b"VB"
GZIP_TRAILER = struct.Struct("<II")
_FLAG_HEADER_CRC, _FLAG_EXTRA, _FLAG_NAME, _FLAG_COMMENT, _RESERVED_FLAGS = 0x02, 0x04, 0x08, 0x10, 0xE0
_GZIP_FIXED = struct.Struct("<2sBBIBB")
_EXTRA = struct.Struct("<H2sHII")
_HEADER_CRC = struct.Struct("<H")
ZLIB_HEADER = b"\x78\x9c"
ZLIB_TRAILER = struct.Struct(">I")
EMPTY_FINAL_BLOCK = b"\x03\x00"
"""A last block with nothing in it: it ends a byte-aligned deflate stream."""
STORED_LIMIT_BYTES = 65_535
STORED_HEADER_BYTES = 5
MEMBER_MAGIC = b"VBM1"
MEMBER_HEADER = struct.Struct(">4sBIII")
LAST_MEMBER = 0x80


class MemberCodec(IntEnum):
    """How a tagged member's payload is compressed."""

    DEFLATE = 1
    LZO = 2


@dataclass(frozen=True, slots=True)
class GzipHeader:
    """Where a member's payload starts, and the two lengths of the extra field, if it is ours."""

    payload: int
    member_bytes: int | None
    raw_bytes: int | None


@dataclass(frozen=True, slots=True)
class MemberHeader:
    """The head of a tagged member; `payload` is where its payload starts."""

    codec: MemberCodec
    last: bool
    raw_bytes: int
    crc32: int
    payload: int
    payload_bytes: int


def gzip_member(deflated: bytes, content_crc32: int, raw_bytes: int, crc32: Callable[[Bytes], int]) -> bytes:
    """A whole member of ours around a deflate stream."""
    length = _GZIP_FIXED.size + _EXTRA.size + _HEADER_CRC.size + len(deflated) + GZIP_TRAILER.size
    flags = _FLAG_EXTRA | _FLAG_HEADER_CRC
    fixed = _GZIP_FIXED.pack(GZIP_MAGIC, DEFLATE_METHOD, flags, 0, 0, UNKNOWN_SYSTEM)
    head = fixed + _EXTRA.pack(_EXTRA.size - 2, EXTRA_ID, 8, length, raw_bytes)
    head += _HEADER_CRC.pack(crc32(head) & 0xFFFF)
    return b"".join((head, deflated, GZIP_TRAILER.pack(content_crc32, raw_bytes & 0xFFFF_FFFF)))


def read_gzip_header(data: memoryview, start: int, crc32: Callable[[Bytes], int]) -> GzipHeader:
    """The header of the member at `start`. Raises CorruptData, TruncatedData."""
    position = _bounded(data, start, _GZIP_FIXED.size)
    magic, method, flags, _time, _extra_flags, _system = _GZIP_FIXED.unpack_from(data, start)
    if magic != GZIP_MAGIC or method != DEFLATE_METHOD or flags & _RESERVED_FLAGS:
        raise CorruptData(f"no gzip member of deflate data at byte {start}")
    member_bytes = raw_bytes = None
    if flags & _FLAG_EXTRA:
        end = _bounded(data, position, 2)
        extra_end = _bounded(data, end, int.from_bytes(data[position:end], "little"))
        member_bytes, raw_bytes = _our_extra(data[end:extra_end])
        position = extra_end
    for flag in (_FLAG_NAME, _FLAG_COMMENT):
        if flags & flag:
            position = _after_zero(data, position)
    if flags & _FLAG_HEADER_CRC:
        end = _bounded(data, position, 2)
        if crc32(data[start:position]) & 0xFFFF != int.from_bytes(data[position:end], "little"):
            raise CorruptData("the checksum of the gzip header does not fit")
        position = end
    return GzipHeader(position, member_bytes, raw_bytes)


def _our_extra(extra: memoryview) -> tuple[int | None, int | None]:
    """The two lengths of our subfield, where there is one."""
    position = 0
    while position + 4 <= len(extra):
        length = int.from_bytes(extra[position + 2 : position + 4], "little")
        if extra[position : position + 2] == EXTRA_ID and length == 8 and position + 12 <= len(extra):
            member_bytes, raw_bytes = struct.unpack_from("<II", extra, position + 4)
            return member_bytes, raw_bytes
        position += 4 + length
    return None, None


def check_zlib_header(data: memoryview) -> int:
    """Where the payload of a zlib stream starts. Raises CorruptData, TruncatedData."""
    payload = _bounded(data, 0, 2)
    if not looks_like_zlib(data):
        raise CorruptData("no zlib header")
    if data[1] & 0x20:
        raise CorruptData("the zlib stream needs a preset dictionary")
    return payload


def looks_like_zlib(data: memoryview) -> bool:
    """Whether the first two bytes are a zlib header (RFC 1950)."""
    if len(data) < 2:
        return False
    return data[0] & 0x0F == DEFLATE_METHOD and data[0] >> 4 <= 7 and (data[0] << 8 | data[1]) % 31 == 0


def tagged_member(codec: MemberCodec, payload: bytes, raw_bytes: int, crc32: int, *, last: bool) -> bytes:
    """A whole tagged member."""
    tag = codec | (LAST_MEMBER if last else 0)
    return MEMBER_HEADER.pack(MEMBER_MAGIC, tag, raw_bytes, crc32, len(payload)) + payload


def read_member_header(data: memoryview, start: int) -> MemberHeader:
    """The head of the tagged member at `start`. Raises CorruptData, TruncatedData."""
    payload = _bounded(data, start, MEMBER_HEADER.size)
    magic, tag, raw_bytes, crc32, payload_bytes = MEMBER_HEADER.unpack_from(data, start)
    known = {codec.value for codec in MemberCodec}
    if magic != MEMBER_MAGIC or tag & ~LAST_MEMBER not in known:
        raise CorruptData(f"no tagged member at byte {start}")
    _bounded(data, payload, payload_bytes)
    codec = MemberCodec(tag & ~LAST_MEMBER)
    return MemberHeader(codec, bool(tag & LAST_MEMBER), raw_bytes, crc32, payload, payload_bytes)


def stored_bytes(raw_bytes: int) -> int:
    """The length of data in stored blocks."""
    return raw_bytes + STORED_HEADER_BYTES * max(1, -(-raw_bytes // STORED_LIMIT_BYTES))


def stored_blocks(data: Bytes, *, final: bool) -> bytes:
    """Data as stored deflate blocks, to follow anything that ends byte-aligned."""
    blocks: list[Bytes] = []
    for start in range(0, max(1, len(data)), STORED_LIMIT_BYTES):
        block = data[start : start + STORED_LIMIT_BYTES]
        last = final and start + STORED_LIMIT_BYTES >= len(data)
        blocks.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF))
        blocks.append(block)
    return b"".join(blocks)


def take_trailer(data: memoryview, start: int, layout: struct.Struct) -> tuple[int, ...]:
    """The numbers of a trailer at `start`. Raises TruncatedData."""
    _bounded(data, start, layout.size)
    return layout.unpack_from(data, start)


def _bounded(data: memoryview, start: int, length: int) -> int:
    """The end of `length` bytes from `start`. Raises TruncatedData."""
    if start + length > len(data):
        raise TruncatedData(f"the data ends at byte {len(data)}, within a header, a trailer or a payload")
    return start + length


def _after_zero(data: memoryview, start: int) -> int:
    """The position after the zero byte that ends a text."""
    for position in range(start, len(data)):
        if not data[position]:
            return position + 1
    raise TruncatedData("the data ends within a name or comment of the gzip header")
