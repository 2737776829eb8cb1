"""The gzip engine: functions, block types, counts, checksums, completion codes."""

from __future__ import annotations

import zlib

import pytest

from nxunit.deflate import BlockType, first_block_type
from nxunit.engine import LOW_LIMIT_BYTES, Engine
from nxunit.job import Job
from protocol.codes import CompletionCode, FunctionCode
from protocol.paste_messages import Crb
from tests.fidelity.rows import fidelity
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


@fidelity(
    "2 accelerator",
    "There are thirteen function codes: eight compressions with fixed or dynamic tables, with counts or "
    "without, begun or resumed; four decompressions; Wrap.",
    source="UM p.59",
)
@fidelity(
    "2 accelerator",
    "A compression with a dynamic table uses the one that the sender puts into the CPB.",
    source="UM p.59",
    differs="The engine makes a table of its own; the block type is the one asked for.",
)
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


@fidelity(
    "2 requests",
    "All source processed is completion code 0 with extension 0x20: the count of target bytes is valid.",
    source="UM p.66-71",
)
@fidelity(
    "2 requests",
    "A compression whose output is longer than its input ends with completion code 64, which is not terminated:"
    " the output is good.",
    source="UM p.66-71",
)
@fidelity(
    "2 accelerator",
    "The functions with counts give 316 counts of literals, lengths and distances back.",
    source="UM p.59-63",
    differs="They compress, and give none.",
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("function", FRESH)
def test_compress_reports_counts_checksums_and_growth(function: FunctionCode, kind: str) -> None:
    source = KINDS[kind]
    csb = ENGINE.complete(job(function, source)).csb
    grown = csb.target_bytes > len(source)
    assert csb.code is (CompletionCode.TPBC_GREATER if grown else CompletionCode.OK)
    assert (csb.extension, csb.processed_bytes) == (FULL, len(source))
    assert (csb.crc32, csb.adler32) == (zlib.crc32(source), zlib.adler32(source))


@fidelity(
    "2 requests",
    "A compression whose output is longer than its input ends with completion code 64, which is not terminated:"
    " the output is good.",
    source="UM p.66-71",
)
def test_growing_output_is_complete_and_not_terminated() -> None:
    outcome = ENGINE.complete(job(FunctionCode.COMPRESS_DHT, NOISE))
    assert outcome.csb.code is CompletionCode.TPBC_GREATER
    assert outcome.csb.extension == FULL
    assert raw_inflate(outcome.target) == NOISE


@fidelity("2 requests", "SPBC counts the bytes of the history too.", source="UM p.59-63")
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


@fidelity(
    "2 requests",
    "CRC32 and Adler32 go in as they stand so far and come out with the new data, of compression the source's, "
    "of decompression the target's.",
    source="UM p.59",
)
@fidelity(
    "2 requests",
    "A compression is resumed in the middle of a byte (TEBC, SUBC).",
    source="UM p.59",
    differs="Each part ends on a whole byte, with an empty stored block; up to 32 KiB of history precede the next.",
)
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


@fidelity("2 requests", "A suspended job has extension 0xA0, partial with a valid count.", source="UM p.54")
@fidelity(
    "2 accelerator",
    "The limit counts source bytes when compressing; reaching it suspends the job with completion code 3, and "
    "the sender resumes.",
    source="UM p.56-57",
)
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


@fidelity("2 accelerator", "History counts towards the limit.", source="UM p.56-57")
def test_history_counts_towards_the_limit() -> None:
    outcome = ENGINE.complete(job(FunctionCode.COMPRESS_RESUME_DHT, TEXT[:LIMIT], history=TEXT[:32_768]))
    assert outcome.csb.extension == PARTIAL
    assert outcome.csb.processed_bytes == LIMIT


def test_a_history_as_long_as_the_limit_still_leaves_progress() -> None:
    outcome = Engine(4_096).complete(job(FunctionCode.COMPRESS_RESUME_DHT, TEXT[:10_000], history=TEXT[:32_768]))
    assert outcome.csb.extension == PARTIAL
    assert outcome.csb.processed_bytes == 32_768 + 4_096


@fidelity("2 accelerator", "The lowest bit of the function code forces the low byte-count limit.", source="UM p.64")
@fidelity(
    "2 accelerator",
    "A byte-count limit of 0 is none.",
    source="UM p.64",
    differs="A low limit of 0 leaves the request limit, which is always there.",
)
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
@fidelity("2 accelerator", "Wrap copies the source and computes its checksums.", source="UM p.59")
@pytest.mark.parametrize("kind", KINDS)
def test_wrap_copies_with_checksums(kind: str) -> None:
    source = KINDS[kind]
    crc32, adler32 = zlib.crc32(b"before"), zlib.adler32(b"before")
    outcome = ENGINE.complete(job(FunctionCode.WRAP, source, crc32=crc32, adler32=adler32))
    assert outcome.target == source
    assert (outcome.csb.code, outcome.csb.extension) == (CompletionCode.OK, FULL)
    assert outcome.csb.crc32 == zlib.crc32(b"before" + source)
    assert outcome.csb.adler32 == zlib.adler32(b"before" + source)


@fidelity(
    "2 accelerator",
    "The limit counts source bytes when compressing; reaching it suspends the job with completion code 3, and "
    "the sender resumes.",
    source="UM p.56-57",
)
def test_wrap_stops_at_the_request_limit() -> None:
    outcome = ENGINE.complete(job(FunctionCode.WRAP, NOISE + b"more"))
    assert outcome.target == NOISE
    assert (outcome.csb.extension, outcome.csb.processed_bytes) == (PARTIAL, LIMIT)


@fidelity(
    "2 requests", "More output than the target has room for is completion code 13, terminated.", source="UM p.66-71"
)
@pytest.mark.parametrize("function", [FunctionCode.COMPRESS_FHT, FunctionCode.COMPRESS_DHT, FunctionCode.WRAP])
def test_a_target_that_is_too_small_ends_without_output(function: FunctionCode) -> None:
    needed = ENGINE.complete(job(function, TEXT[:5_000])).csb.target_bytes
    assert ENGINE.complete(job(function, TEXT[:5_000], target_bytes=needed)).csb.code is CompletionCode.OK
    short = ENGINE.complete(job(function, TEXT[:5_000], target_bytes=needed - 1))
    assert is_terminated(short, CompletionCode.TARGET_SPACE)


@fidelity("2 requests", "An unrecognised function code is completion code 17, terminated.", source="UM p.66-71")
@pytest.mark.parametrize("function", [0x18, 0x1A, 0x1C, 0x20, 0x80, 0xFF])
def test_functions_that_are_not_offered_are_refused_by_code(function: int) -> None:
    assert is_terminated(ENGINE.complete(job(function, b"data")), CompletionCode.INVALID_FUNCTION)


@fidelity(
    "2 requests",
    "Non-zero reserved bits in the first half of a CRB are completion code 21.",
    source="UM p.50",
    differs="There are no reserved bits; 21 is for a history or a resume token that the function does not take.",
)
def test_history_needs_a_resume_function_and_room_in_the_frame() -> None:
    for function in (FunctionCode.COMPRESS_DHT, FunctionCode.DECOMPRESS, FunctionCode.WRAP):
        outcome = ENGINE.complete(job(function, b"source", history=b"history"))
        assert is_terminated(outcome, CompletionCode.INVALID_CRB)
    crb = Crb(function=FunctionCode.COMPRESS_RESUME_DHT, target_bytes=100, history_bytes=10)
    assert is_terminated(ENGINE.complete(Job(crb, b"short")), CompletionCode.INVALID_CRB)


@fidelity(
    "2 requests",
    "A history as long as the source operand, with nothing after it, is completion code 3, terminated.",
    source="UM p.66-71",
)
@pytest.mark.parametrize("function", [*RESUMING, FunctionCode.DECOMPRESS_RESUME])
def test_history_without_source_is_a_length_error(function: FunctionCode) -> None:
    outcome = ENGINE.complete(job(function, b"", history=b"history"))
    assert is_terminated(outcome, CompletionCode.DATA_LENGTH)


@fidelity(
    "2 requests",
    "Non-zero reserved bits in the first half of a CRB are completion code 21.",
    source="UM p.50",
    differs="There are no reserved bits; 21 is for a history or a resume token that the function does not take.",
)
@pytest.mark.parametrize("function", [*FRESH, FunctionCode.DECOMPRESS, FunctionCode.WRAP])
def test_a_token_beside_a_function_that_takes_none_is_an_invalid_request(function: FunctionCode) -> None:
    assert is_terminated(ENGINE.complete(job(function, b"data", resume=b"t" * 16)), CompletionCode.INVALID_CRB)
