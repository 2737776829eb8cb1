"""Decompression by single blocks (functions 0x12 and 0x16): each stop is where a block of the stream ends."""

from __future__ import annotations

import itertools
import zlib

import pytest

from nxunit.deflate import BlockType
from nxunit.engine import Engine
from nxunit.job import FORCE_LOW_LIMIT, Completion
from protocol.codes import CompletionCode, FunctionCode
from protocol.paste_messages import Crb, PasteCompleted
from tests.fidelity.rows import fidelity
from tests.nxunit.bench import Bench
from tests.nxunit.block_client import (
    ENGINE,
    FLUSHES,
    LIMIT,
    ONE_BLOCK,
    RESUME_BLOCK,
    TEXT_BLOCK,
    Client,
    by_blocks,
    flushed,
)
from tests.nxunit.deflate_bits import bits_of, dynamic_block, fixed_block, packed, stream_of, walk
from tests.nxunit.jobs import FULL, KINDS, NOISE, PARTIAL, TEXT, is_terminated, job, raw_deflate
from tests.nxunit.pages import absent, source_fault, target_fault, with_pages


@fidelity(
    "2 accelerator",
    "Function codes 0x12 and 0x16 decompress a single block and suspend: completion code 3, partial, until the last.",
    source="UM p.59",
)
@pytest.mark.parametrize("level", range(10))
@pytest.mark.parametrize("flush", FLUSHES)
def test_each_request_gives_one_block_of_what_zlib_made(level: int, flush: int) -> None:
    for kind in ("text then noise", "short text", "empty", "zeros"):
        by_blocks(flushed(KINDS[kind], level, flush))


def test_a_stream_without_flushes_has_the_blocks_that_zlib_chose() -> None:
    client = by_blocks(raw_deflate(TEXT[:150_000] + NOISE[:40_000]))
    assert {block.kind for block in client.blocks} >= {BlockType.DYNAMIC, BlockType.STORED}
    assert len(by_blocks(raw_deflate(TEXT[:9_000], 6, zlib.Z_FIXED)).stops) == 0


@pytest.mark.parametrize("empty", [fixed_block(), dynamic_block(), b""])
@pytest.mark.parametrize(
    "following", [fixed_block(b"abc\xff"), TEXT_BLOCK, b"stored", fixed_block(), dynamic_block(), b""]
)
@pytest.mark.parametrize("shift", range(8))
def test_a_block_may_end_at_any_bit_and_an_empty_one_is_a_block(
    empty: str | bytes, following: str | bytes, shift: int
) -> None:
    """Literals above 143 have nine bits: each moves what follows by one bit."""
    shifted = fixed_block(b"\xff" * shift)
    client = by_blocks(stream_of([shifted, empty, empty, following, shifted, following]))
    assert len(client.stops) == 5
    assert {bit % 8 for bit, _ in by_blocks(stream_of([shifted, fixed_block()])).stops} == {(10 + 9 * shift) % 8}


def test_matches_reach_into_the_blocks_before() -> None:
    plain = NOISE[:30_000] * 3
    stream = flushed(plain, 9, zlib.Z_BLOCK, 30)
    assert len(stream) < 40_000
    assert len(by_blocks(stream).stops) >= 29


@pytest.mark.parametrize("last", [fixed_block(b"last"), TEXT_BLOCK, b"stored", fixed_block()])
def test_the_last_block_ends_the_stream_and_what_follows_it_is_left(last: str | bytes) -> None:
    stream = stream_of([last])
    outcome = ENGINE.complete(job(ONE_BLOCK, stream))
    assert (outcome.csb.code, outcome.csb.extension, outcome.csb.ended) == (CompletionCode.OK, FULL, True)
    trailed = ENGINE.complete(job(ONE_BLOCK, stream + b"trailing")).csb
    assert (trailed.code, trailed.extension, trailed.ended) == (CompletionCode.DATA_LENGTH, PARTIAL, True)
    assert trailed.processed_bytes == len(stream)


@pytest.mark.parametrize("first", [fixed_block(b"first"), TEXT_BLOCK, b"stored", dynamic_block()])
def test_source_that_ends_within_a_block_suspends_there(first: str | bytes) -> None:
    stream = stream_of([first, fixed_block(b"second"), b"third"])
    end = walk(stream)[0].end
    for cut_bytes in range(end // 8 + 1):
        client = Client(stream)
        client.ask(cut_bytes)
        assert (client.position, client.stops) == (
            cut_bytes,
            [(end, len(client.output))] if 8 * cut_bytes == end else [],
        )
        while not client.over:
            client.ask(len(stream))
        assert client.stops == client.ends
        assert client.output == zlib.decompress(stream, -15)


def test_a_target_without_room_for_the_block_is_exhausted_and_one_with_just_enough_is_not() -> None:
    stream = stream_of([TEXT_BLOCK, TEXT_BLOCK])
    outcome = ENGINE.complete(job(ONE_BLOCK, stream, target_bytes=1_500))
    assert (outcome.csb.code, outcome.target) == (CompletionCode.DATA_LENGTH, TEXT[:1_500])
    for target_bytes in (0, 1, 1_499):
        short = ENGINE.complete(job(ONE_BLOCK, stream, target_bytes=target_bytes))
        assert is_terminated(short, CompletionCode.TARGET_SPACE)


def test_a_block_may_end_in_a_byte_that_is_still_to_be_sent_again() -> None:
    """Its output was more than the limit, so that its last byte was asked for again; then no source comes at all."""
    zeros = bits_of(raw_deflate(bytes(1_000), 9, zlib.Z_FIXED))
    zeros = "0" + zeros[1 : walk(packed(zeros))[0].end]
    for shift, period in itertools.product(range(8), (2, 3, 4, 5)):
        client = Client(stream_of([fixed_block(b"\xff" * shift), zeros, fixed_block(b"end"), b"stored"]), Engine(20))
        while not client.over:
            client.ask(0 if client.turns % period else len(client.stream))
        assert client.output == b"\xff" * shift + bytes(1_000) + b"endstored"
        assert client.stops == client.ends


@pytest.mark.parametrize("limit_bytes", [1, 7, 499, 500, 1_500, 1_501])
def test_the_byte_limit_suspends_within_a_block(limit_bytes: int) -> None:
    stream = stream_of([TEXT_BLOCK, b"stored bytes", fixed_block(), TEXT_BLOCK, fixed_block(b"end")])
    client = Client(stream, Engine(limit_bytes))
    while not client.over:
        client.ask(len(stream))
    assert client.output == zlib.decompress(stream, -15)
    assert client.stops == client.ends


def test_the_lowest_bit_forces_the_low_limit() -> None:
    stream = raw_deflate(bytes(50_000), 9)
    outcome = Engine(LIMIT, 4_096).complete(job(ONE_BLOCK | FORCE_LOW_LIMIT, stream))
    assert (outcome.csb.code, len(outcome.target)) == (CompletionCode.DATA_LENGTH, 4_096)


def test_history_may_stand_for_the_blocks_before() -> None:
    history, tail = NOISE[:32_768], b"tail"
    stream = raw_deflate(history + tail, history=history)
    outcome = ENGINE.complete(job(RESUME_BLOCK, stream, history=history))
    assert outcome.target == (history + tail)[: walk(stream, history)[0].output_end]
    assert is_terminated(ENGINE.complete(job(ONE_BLOCK, stream, history=history)), CompletionCode.INVALID_CRB)


def test_bad_data_is_found_when_its_block_is_read() -> None:
    stream = stream_of([fixed_block(b"good"), b""])[:-4] + b"\x05\x00\x00\x00"
    first = ENGINE.complete(job(ONE_BLOCK, stream))
    assert (first.csb.code, first.target) == (CompletionCode.DATA_LENGTH, b"good")
    rest = stream[first.csb.processed_bytes :]
    second = ENGINE.complete(job(RESUME_BLOCK, rest, resume=b"t" * 16, state=first.suspended))
    assert is_terminated(second, CompletionCode.BAD_HUFFMAN_CODE)
    assert is_terminated(ENGINE.complete(job(ONE_BLOCK, b"\x4b\x04\xf2\x00\x00")), CompletionCode.INVALID_DISTANCE)
    assert is_terminated(ENGINE.complete(job(ONE_BLOCK, b"\xfd\xff\xff\xff\xff")), CompletionCode.INVALID_DHT)


@pytest.mark.parametrize("first_bytes", [3, 100, 100_000])
def test_a_decompression_by_blocks_can_go_on_to_the_end_of_the_stream(first_bytes: int) -> None:
    stream = stream_of([fixed_block(b"\xff"), TEXT_BLOCK, b"stored", TEXT_BLOCK, fixed_block(b"end")])
    client = Client(stream)
    client.ask(first_bytes)
    client.ask(len(stream), whole=True)
    assert client.over
    assert client.output == zlib.decompress(stream, -15)


@fidelity(
    "2 accelerator",
    "A decompression that was begun with 0x10 can be resumed for a single block.",
    source="UM p.59",
    differs="Where in its block a decompression stands is known only of one begun with 0x12: completion code 8.",
)
def test_a_decompression_that_was_not_by_blocks_cannot_go_on_by_blocks() -> None:
    stream = raw_deflate(TEXT[:9_000])
    first = ENGINE.complete(job(FunctionCode.DECOMPRESS, stream[:100]))
    second = ENGINE.complete(job(RESUME_BLOCK, stream[100:], resume=b"t" * 16, state=first.suspended))
    assert is_terminated(second, CompletionCode.INVALID_OPERAND)
    assert is_terminated(ENGINE.complete(job(RESUME_BLOCK, stream, resume=b"t" * 16)), CompletionCode.INVALID_OPERAND)
    assert is_terminated(ENGINE.complete(job(ONE_BLOCK, stream, resume=b"t" * 16)), CompletionCode.INVALID_CRB)


def test_pages_beyond_the_block_are_not_touched() -> None:
    """The first block ends in the first page of the source, the second one needs the second page."""
    stream = stream_of([fixed_block(b"first"), NOISE[:40_000], NOISE[:40_000]])
    whole = with_pages(job(FunctionCode.DECOMPRESS, stream), absent(1))
    assert ENGINE.run(whole) == source_fault(1)
    client, request = Client(stream), with_pages(job(ONE_BLOCK, stream), absent(1))
    first = ENGINE.run(request)
    assert isinstance(first, Completion)
    assert first.target == b"first"
    client.ask(len(stream))
    client.ask(len(stream))
    third = job(RESUME_BLOCK, stream[client.position :], resume=b"t" * 16, state=client.state)
    assert isinstance(ENGINE.run(with_pages(third, absent(1))), Completion)
    assert ENGINE.run(with_pages(third, absent(0))) == source_fault(0)
    onward = job(FunctionCode.DECOMPRESS_RESUME, third.frame, resume=b"t" * 16, state=client.state)
    assert ENGINE.run(with_pages(onward, absent(0))) == source_fault(0), "between two blocks it has not ended"
    assert ENGINE.run(with_pages(third, b"", absent(0))) == target_fault(0)


def test_a_block_that_goes_on_in_an_absent_page_stops_there() -> None:
    assert ENGINE.run(with_pages(job(ONE_BLOCK, stream_of([NOISE[:65_535], b""])), absent(1))) == source_fault(1)
    assert isinstance(ENGINE.run(with_pages(job(ONE_BLOCK, stream_of([NOISE[:65_531], b""])), absent(1))), Completion)


def test_a_stream_goes_through_the_unit_block_by_block_with_repeats() -> None:
    blocks: list[str | bytes] = [
        fixed_block(b"one"),
        fixed_block(),
        TEXT_BLOCK,
        b"stored",
        dynamic_block(),
        fixed_block(b"end"),
    ]
    stream, bench, outputs, position, resume = stream_of(blocks), Bench(), list[bytes](), 0, b""
    bench.program(1)
    for number in range(1, len(blocks) + 1):
        crb = Crb(function=RESUME_BLOCK if resume else ONE_BLOCK, target_bytes=1 << 20, resume=resume)
        answers = []
        for _ in range(2):
            assert bench.paste(1, number, stream[position:], crb=crb) == [("accepted", number)]
            assert bench.work(ENGINE.run) == [("completed", number)]
            answers.append((bench.told[-1].body, bench.told[-1].frames[0]))
        assert answers[0] == answers[1], "a lost completion is computed again, token and all"
        completed, target = answers[0]
        assert isinstance(completed, PasteCompleted)
        assert completed.csb.ended is (number == len(blocks))
        position, resume = position + completed.csb.processed_bytes, completed.csb.resume
        outputs.append(target)
    assert outputs == [b"one", b"", TEXT[:1_500], b"stored", b"", b"end"]
