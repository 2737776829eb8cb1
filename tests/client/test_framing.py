"""What stands around deflate data."""

from __future__ import annotations

import gzip
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpar.client import CorruptData, TruncatedData
from lpar.client.framing import (
    EMPTY_FINAL_BLOCK,
    MemberCodec,
    check_zlib_header,
    gzip_member,
    looks_like_zlib,
    read_gzip_header,
    read_member_header,
    stored_blocks,
    stored_bytes,
    tagged_member,
)


def crc32(data: bytes | memoryview) -> int:
    return zlib.crc32(data)


def deflate(data: bytes) -> bytes:
    machine = zlib.compressobj(6, zlib.DEFLATED, -15)
    return machine.compress(data) + machine.flush()


def test_a_member_of_ours_says_its_own_length_and_that_of_its_content() -> None:
    member = gzip_member(deflate(b"credit" * 50), zlib.crc32(b"credit" * 50), 300, crc32)
    header = read_gzip_header(memoryview(b"xx" + member), 2, crc32)
    assert (header.member_bytes, header.raw_bytes) == (len(member), 300)
    assert gzip.decompress(member) == b"credit" * 50


def test_headers_of_others_are_read_with_every_optional_field() -> None:
    extra = b"AB\x02\x00hi" + b"VB\x08\x00" + struct.pack("<II", 77, 88)
    head = b"\x1f\x8b\x08\x1e" + bytes(6) + len(extra).to_bytes(2, "little") + extra + b"name\0comment\0"
    data = head + (zlib.crc32(head) & 0xFFFF).to_bytes(2, "little") + b"payload"
    header = read_gzip_header(memoryview(data), 0, crc32)
    assert data[header.payload :] == b"payload"
    assert (header.member_bytes, header.raw_bytes) == (77, 88)
    damaged = data.replace(b"name", b"game")
    with pytest.raises(CorruptData, match="checksum of the gzip header"):
        read_gzip_header(memoryview(damaged), 0, crc32)


@pytest.mark.parametrize("length", range(26))
def test_a_gzip_header_that_ends_early_is_truncated(length: int) -> None:
    member = gzip_member(deflate(b"x"), 0, 1, crc32)
    with pytest.raises(TruncatedData):
        read_gzip_header(memoryview(member[:length]), 0, crc32)


def test_a_name_without_an_end_is_truncated() -> None:
    with pytest.raises(TruncatedData, match="name or comment"):
        read_gzip_header(memoryview(b"\x1f\x8b\x08\x08" + bytes(6) + b"endless"), 0, crc32)


@pytest.mark.parametrize("head", [b"\x1f\x8c\x08\x00", b"\x1f\x8b\x07\x00", b"\x1f\x8b\x08\x20"])
def test_other_methods_and_reserved_flags_are_no_gzip(head: bytes) -> None:
    with pytest.raises(CorruptData):
        read_gzip_header(memoryview(head + bytes(20)), 0, crc32)


@given(st.binary(max_size=200_000) | st.integers(0, 200_000).map(bytes), st.booleans())
def test_stored_blocks_are_deflate_of_the_length_foretold(data: bytes, final: bool) -> None:
    blocks = stored_blocks(data, final=final)
    assert len(blocks) == stored_bytes(len(data))
    machine = zlib.decompressobj(-15)
    assert machine.decompress(blocks if final else blocks + EMPTY_FINAL_BLOCK) == data
    assert machine.eof


def test_zlib_headers_are_told_from_noise() -> None:
    assert looks_like_zlib(memoryview(zlib.compress(b"x", 1)))
    assert not looks_like_zlib(memoryview(b"\x78"))
    assert not looks_like_zlib(memoryview(b"\x88\x1c"))
    with pytest.raises(CorruptData, match="no zlib header"):
        check_zlib_header(memoryview(b"\x78\x9d"))
    with pytest.raises(CorruptData, match="preset dictionary"):
        check_zlib_header(memoryview(b"\x78\xbb"))
    with pytest.raises(TruncatedData):
        check_zlib_header(memoryview(b"\x78"))


def test_a_tagged_member_says_what_is_in_it() -> None:
    member = tagged_member(MemberCodec.LZO, b"abc", 10, 7, last=True)
    header = read_member_header(memoryview(member), 0)
    assert (header.codec, header.last, header.raw_bytes, header.crc32) == (MemberCodec.LZO, True, 10, 7)
    assert member[header.payload : header.payload + header.payload_bytes] == b"abc"
    with pytest.raises(TruncatedData):
        read_member_header(memoryview(member[:-1]), 0)
    with pytest.raises(CorruptData):
        read_member_header(memoryview(b"VBM1\x03" + member[5:]), 0)
