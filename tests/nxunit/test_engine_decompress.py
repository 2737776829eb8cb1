"""The gzip engine, decompression: counts, checksums, limits, completion codes."""

from __future__ import annotations

import zlib

import pytest

from nxunit.engine import Engine
from protocol.codes import CompletionCode, FunctionCode
from tests.fidelity.rows import fidelity
from tests.nxunit.jobs import FULL, KINDS, NOISE, PARTIAL, TEXT, is_terminated, job, raw_deflate

LIMIT = 1 << 20
ENGINE = Engine(LIMIT)


@fidelity(
    "2 requests",
    "All source processed is completion code 0 with extension 0x20: the count of target bytes is valid.",
    source="UM p.66-71",
)
@fidelity(
    "2 requests",
    "CRC32 and Adler32 go in as they stand so far and come out with the new data, of compression the source's, "
    "of decompression the target's.",
    source="UM p.59",
)
@fidelity(
    "2 accelerator",
    "There are thirteen function codes: eight compressions with fixed or dynamic tables, with counts or "
    "without, begun or resumed; four decompressions; Wrap.",
    source="UM p.59",
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("level", "strategy"), [(0, 0), (1, 0), (9, 0), (6, zlib.Z_FIXED), (6, zlib.Z_HUFFMAN_ONLY)])
def test_decompress_takes_what_zlib_made(kind: str, level: int, strategy: int) -> None:
    plain = KINDS[kind]
    stream = raw_deflate(plain, level, strategy)
    outcome = ENGINE.complete(job(FunctionCode.DECOMPRESS, stream, crc32=zlib.crc32(b"x"), adler32=zlib.adler32(b"x")))
    assert outcome.target == plain
    csb = outcome.csb
    assert (csb.code, csb.extension, csb.ended) == (CompletionCode.OK, FULL, True)
    assert (csb.processed_bytes, csb.target_bytes) == (len(stream), len(plain))
    assert (csb.crc32, csb.adler32) == (zlib.crc32(b"x" + plain), zlib.adler32(b"x" + plain))
    assert outcome.suspended is None


@fidelity("2 requests", "SPBC counts the bytes of the history too.", source="UM p.59-63")
def test_decompress_with_a_history_instead_of_a_token() -> None:
    history = NOISE[:32_768]
    stream = raw_deflate(history + b"tail", history=history)
    outcome = ENGINE.complete(job(FunctionCode.DECOMPRESS_RESUME, stream, history=history))
    assert outcome.target == history + b"tail"
    assert outcome.csb.processed_bytes == len(history) + len(stream)


@fidelity(
    "2 requests",
    "Source that follows the end of the stream is completion code 3, partial; SPBC says where the stream ended.",
    source="UM p.66-71",
)
@pytest.mark.parametrize("trailing_bytes", [1, 8, 20, 40_000])
@pytest.mark.parametrize("plain_bytes", [0, 10, 100_000])
def test_trailing_source_is_partial_and_says_where_the_stream_ended(plain_bytes: int, trailing_bytes: int) -> None:
    stream = raw_deflate(TEXT[:plain_bytes])
    outcome = ENGINE.complete(job(FunctionCode.DECOMPRESS, stream + NOISE[:trailing_bytes]))
    assert outcome.target == TEXT[:plain_bytes]
    csb = outcome.csb
    assert (csb.code, csb.extension, csb.ended) == (CompletionCode.DATA_LENGTH, PARTIAL, True)
    assert csb.processed_bytes == len(stream)
    assert outcome.suspended is None


@fidelity(
    "2 requests", "More output than the target has room for is completion code 13, terminated.", source="UM p.66-71"
)
def test_a_target_below_the_limit_that_is_too_small_for_the_data_is_no_suspension() -> None:
    stream = raw_deflate(TEXT[:50_000])
    assert ENGINE.complete(job(FunctionCode.DECOMPRESS, stream, target_bytes=50_000)).csb.code is CompletionCode.OK
    for target_bytes in (0, 1, 49_999):
        short = ENGINE.complete(job(FunctionCode.DECOMPRESS, stream, target_bytes=target_bytes))
        assert is_terminated(short, CompletionCode.TARGET_SPACE)


@fidelity("2 requests", "A terminated job has extension 0x60: its outputs and counts mean nothing.", source="UM p.54")
@fidelity(
    "2 requests",
    "A Huffman code that is missing or undefined, or a bad block header, is completion code 66, terminated.",
    source="UM p.66-71",
)
@fidelity(
    "2 requests",
    "A distance to before the start of the data is completion code 67, terminated.",
    source="UM p.66-71",
)
@fidelity("2 requests", "An invalid dynamic Huffman table is completion code 68, terminated.", source="UM p.66-71")
@pytest.mark.parametrize(
    ("source", "code"),
    [
        (b"\x07\x00", CompletionCode.BAD_HUFFMAN_CODE),  # block type 3
        (b"\x01\x05\x00\x00\x00hello", CompletionCode.BAD_HUFFMAN_CODE),  # stored lengths that disagree
        (b"\x1b\xff\xff\xff", CompletionCode.BAD_HUFFMAN_CODE),  # an undefined literal/length symbol
        (b"\x4b\x04\xf2\x00\x00", CompletionCode.INVALID_DISTANCE),  # a match before the start of the data
        (b"\xfd\xff\xff\xff\xff", CompletionCode.INVALID_DHT),  # more code lengths than there are symbols
        (b"\x05" + bytes(60), CompletionCode.INVALID_DHT),  # a table without codes
    ],
)
def test_bad_data_is_told_apart(source: bytes, code: CompletionCode) -> None:
    assert is_terminated(ENGINE.complete(job(FunctionCode.DECOMPRESS, source)), code)


@fidelity(
    "2 requests",
    "An invalid operand is completion code 8.",
    source="UM p.66-71",
    differs="It is what a resume token that the unit does not keep (any more) ends with.",
)
@pytest.mark.parametrize("token", [b"t" * 16, b"short"])
def test_a_token_that_stands_for_nothing_is_an_invalid_operand(token: bytes) -> None:
    outcome = ENGINE.complete(job(FunctionCode.DECOMPRESS_RESUME, b"data", resume=token))
    assert is_terminated(outcome, CompletionCode.INVALID_OPERAND)


@fidelity("2 accelerator", "The limit counts target bytes when decompressing.", source="UM p.56-57")
def test_a_bomb_gives_no_more_than_the_limit() -> None:
    bomb = raw_deflate(bytes(64 << 20), 1)
    outcome = ENGINE.complete(job(FunctionCode.DECOMPRESS, bomb, target_bytes=0xFFFF_FFFF))
    assert len(outcome.target) == LIMIT
    assert (outcome.csb.code, outcome.csb.extension) == (CompletionCode.DATA_LENGTH, PARTIAL)
    assert outcome.csb.processed_bytes < len(bomb)
