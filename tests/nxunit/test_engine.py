"""The gzip engine: functions, block types, counts, checksums, completion codes."""

from __future__ import annotations

import zlib

import pytest

from nxunit.deflate import BlockType, first_block_type
from nxunit.engine import LOW_LIMIT_BYTES, Engine
from nxunit.job import Job
from protocol.codes import CompletionCode, FunctionCode
from protocol.paste_messages import Crb
from tests.nxunit.jobs import (
    FULL,
    KINDS,
    NOISE,
    PARTIAL,
    TEXT,
    is_terminated,
    job,
    raw_deflate,
    raw_inflate,
)  # fmt: skip

LIMIT = 1 << 20
ENGINE = Engine(LIMIT)
FIXED = [code for code in FunctionCode if code.compresses and not code.uses_dynamic_table]
DYNAMIC = [code for code in FunctionCode if code.uses_dynamic_table]
FRESH = [code for code in FIXED + DYNAMIC if not code.resumes]
RESUMING = [code for code in FIXED + DYNAMIC if code.resumes]


def block_type_asked(function: FunctionCode) -> BlockType:
    return BlockType.DYNAMIC if function in DYNAMIC else BlockType.FIXED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("function", FRESH)
def test_compress_gives_the_block_type_asked_for(function: FunctionCode, final: bool, kind: str) -> None:
    source = KINDS[kind]
    outcome = ENGINE.complete(job(function, source, final=final))
    assert first_block_type(outcome.target) is block_type_asked(function)
    assert bool(outcome.target[0] & 1) <= final
    machine = zlib.decompressobj(-15)
    assert machine.decompress(outcome.target) == source
    assert machine.eof is final


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", FRESH)
def test_compress_reports_counts_checksums_and_growth(function: FunctionCode, kind: str) -> None:
    source = KINDS[kind]
    csb = ENGINE.complete(job(function, source)).csb
    grown = csb.target_bytes > len(source)
    assert csb.code is (CompletionCode.TPBC_GREATER if grown else CompletionCode.OK)
    assert (csb.extension, csb.processed_bytes) == (FULL, len(source))
    assert (csb.crc32, csb.adler32) == (zlib.crc32(source), zlib.adler32(source))


def test_growing_output_is_complete_and_not_terminated() -> None:
    outcome = ENGINE.complete(job(FunctionCode.COMPRESS_DHT, NOISE))
    assert outcome.csb.code is CompletionCode.TPBC_GREATER
    assert outcome.csb.extension == FULL
    assert raw_inflate(outcome.target) == NOISE


@pytest.mark.parametrize("function", RESUMING)
@pytest.mark.parametrize("history_bytes", [1, 100, 32_768])
def test_matches_reach_into_the_history(function: FunctionCode, history_bytes: int) -> None:
    history = NOISE[:history_bytes]
    source = history + b"!"
    outcome = ENGINE.complete(job(function, source, history=history))
    assert first_block_type(outcome.target) is block_type_asked(function)
    assert raw_inflate(outcome.target, history) == source
    assert outcome.csb.processed_bytes == history_bytes + len(source)
    assert outcome.csb.crc32 == zlib.crc32(source)
    if history_bytes > 1000:
        assert outcome.csb.target_bytes < 2_000


def test_fragments_concatenate_to_one_stream() -> None:
    stream, crc32 = b"", 0
    text = TEXT[:200_000]
    for start in range(0, len(text), 50_000):
        history = text[max(start - 32_768, 0) : start]
        function = FunctionCode.COMPRESS_RESUME_DHT if start else FunctionCode.COMPRESS_DHT
        last = start + 50_000 >= len(text)
        part = ENGINE.complete(job(function, text[start : start + 50_000], history=history, crc32=crc32, final=last))
        stream, crc32 = stream + part.target, part.csb.crc32
    assert raw_inflate(stream) == text
    assert crc32 == zlib.crc32(text)


@pytest.mark.parametrize("function", [FunctionCode.COMPRESS_FHT, FunctionCode.COMPRESS_DHT])
def test_source_beyond_the_request_limit_suspends_the_job(function: FunctionCode) -> None:
    source = TEXT[: LIMIT + 1]
    outcome = ENGINE.complete(job(function, source))
    assert (outcome.csb.code, outcome.csb.extension) == (CompletionCode.DATA_LENGTH, PARTIAL)
    assert outcome.csb.processed_bytes == LIMIT
    assert outcome.csb.crc32 == zlib.crc32(source[:LIMIT])
    machine = zlib.decompressobj(-15)
    assert machine.decompress(outcome.target) == source[:LIMIT]
    assert not machine.eof


def test_history_counts_towards_the_limit() -> None:
    outcome = ENGINE.complete(job(FunctionCode.COMPRESS_RESUME_DHT, TEXT[:LIMIT], history=TEXT[:32_768]))
    assert outcome.csb.extension == PARTIAL
    assert outcome.csb.processed_bytes == LIMIT


def test_a_history_as_long_as_the_limit_still_leaves_progress() -> None:
    outcome = Engine(4_096).complete(job(FunctionCode.COMPRESS_RESUME_DHT, TEXT[:10_000], history=TEXT[:32_768]))
    assert outcome.csb.extension == PARTIAL
    assert outcome.csb.processed_bytes == 32_768 + 4_096


@pytest.mark.parametrize(
    "function", [FunctionCode.COMPRESS_FHT, FunctionCode.COMPRESS_DHT, FunctionCode.WRAP, FunctionCode.DECOMPRESS]
)
def test_the_lowest_bit_of_the_function_forces_the_low_limit(function: FunctionCode) -> None:
    text = TEXT[:200_000]
    source = raw_deflate(text) if function is FunctionCode.DECOMPRESS else text
    held = ENGINE.complete(job(function | 1, source)).csb
    assert (held.code, held.extension) == (CompletionCode.DATA_LENGTH, PARTIAL)
    counted = held.target_bytes if function is FunctionCode.DECOMPRESS else held.processed_bytes
    assert counted == LOW_LIMIT_BYTES
    assert Engine(LIMIT, low_limit_bytes=0).complete(job(function | 1, source)).csb.extension == FULL
    plain = job(function, source)
    assert ENGINE.complete(Job(plain.crb, plain.frame, low_limit=True)).csb == held


@pytest.mark.parametrize("kind", KINDS)
def test_wrap_copies_with_checksums(kind: str) -> None:
    source = KINDS[kind]
    crc32, adler32 = zlib.crc32(b"before"), zlib.adler32(b"before")
    outcome = ENGINE.complete(job(FunctionCode.WRAP, source, crc32=crc32, adler32=adler32))
    assert outcome.target == source
    assert (outcome.csb.code, outcome.csb.extension) == (CompletionCode.OK, FULL)
    assert outcome.csb.crc32 == zlib.crc32(b"before" + source)
    assert outcome.csb.adler32 == zlib.adler32(b"before" + source)


def test_wrap_stops_at_the_request_limit() -> None:
    outcome = ENGINE.complete(job(FunctionCode.WRAP, NOISE + b"more"))
    assert outcome.target == NOISE
    assert (outcome.csb.extension, outcome.csb.processed_bytes) == (PARTIAL, LIMIT)


@pytest.mark.parametrize("function", [FunctionCode.COMPRESS_FHT, FunctionCode.COMPRESS_DHT, FunctionCode.WRAP])
def test_a_target_that_is_too_small_ends_without_output(function: FunctionCode) -> None:
    needed = ENGINE.complete(job(function, TEXT[:5_000])).csb.target_bytes
    assert ENGINE.complete(job(function, TEXT[:5_000], target_bytes=needed)).csb.code is CompletionCode.OK
    short = ENGINE.complete(job(function, TEXT[:5_000], target_bytes=needed - 1))
    assert is_terminated(short, CompletionCode.TARGET_SPACE)


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


def test_decompress_with_a_history_instead_of_a_token() -> None:
    history = NOISE[:32_768]
    stream = raw_deflate(history + b"tail", history=history)
    outcome = ENGINE.complete(job(FunctionCode.DECOMPRESS_RESUME, stream, history=history))
    assert outcome.target == history + b"tail"
    assert outcome.csb.processed_bytes == len(history) + len(stream)


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


def test_a_target_below_the_limit_that_is_too_small_for_the_data_is_no_suspension() -> None:
    stream = raw_deflate(TEXT[:50_000])
    assert ENGINE.complete(job(FunctionCode.DECOMPRESS, stream, target_bytes=50_000)).csb.code is CompletionCode.OK
    for target_bytes in (0, 1, 49_999):
        short = ENGINE.complete(job(FunctionCode.DECOMPRESS, stream, target_bytes=target_bytes))
        assert is_terminated(short, CompletionCode.TARGET_SPACE)


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


@pytest.mark.parametrize("function", [0x18, 0x1A, 0x1C, 0x20, 0x80, 0xFF, 0x12, 0x13, 0x16])
def test_functions_that_are_not_offered_are_refused_by_code(function: int) -> None:
    assert is_terminated(ENGINE.complete(job(function, b"data")), CompletionCode.INVALID_FUNCTION)


def test_history_needs_a_resume_function_and_room_in_the_frame() -> None:
    for function in (FunctionCode.COMPRESS_DHT, FunctionCode.DECOMPRESS, FunctionCode.WRAP):
        outcome = ENGINE.complete(job(function, b"source", history=b"history"))
        assert is_terminated(outcome, CompletionCode.INVALID_CRB)
    crb = Crb(function=FunctionCode.COMPRESS_RESUME_DHT, target_bytes=100, history_bytes=10)
    assert is_terminated(ENGINE.complete(Job(crb, b"short")), CompletionCode.INVALID_CRB)


@pytest.mark.parametrize("function", [*RESUMING, FunctionCode.DECOMPRESS_RESUME])
def test_history_without_source_is_a_length_error(function: FunctionCode) -> None:
    outcome = ENGINE.complete(job(function, b"", history=b"history"))
    assert is_terminated(outcome, CompletionCode.DATA_LENGTH)


@pytest.mark.parametrize("token", [b"t" * 16, b"short"])
def test_a_token_that_stands_for_nothing_is_an_invalid_operand(token: bytes) -> None:
    outcome = ENGINE.complete(job(FunctionCode.DECOMPRESS_RESUME, b"data", resume=token))
    assert is_terminated(outcome, CompletionCode.INVALID_OPERAND)


@pytest.mark.parametrize("function", [*FRESH, FunctionCode.DECOMPRESS, FunctionCode.WRAP])
def test_a_token_beside_a_function_that_takes_none_is_an_invalid_request(function: FunctionCode) -> None:
    assert is_terminated(ENGINE.complete(job(function, b"data", resume=b"t" * 16)), CompletionCode.INVALID_CRB)


def test_a_bomb_gives_no_more_than_the_limit() -> None:
    bomb = raw_deflate(bytes(64 << 20), 1)
    outcome = ENGINE.complete(job(FunctionCode.DECOMPRESS, bomb, target_bytes=0xFFFF_FFFF))
    assert len(outcome.target) == LIMIT
    assert (outcome.csb.code, outcome.csb.extension) == (CompletionCode.DATA_LENGTH, PARTIAL)
    assert outcome.csb.processed_bytes < len(bomb)
