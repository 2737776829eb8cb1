"""Decompression over many requests: limits, pieces, repeats."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nxunit.engine import Engine
from nxunit.inflate import inflate, resume_inflate
from nxunit.job import Job, Suspended
from protocol.codes import CompletionCode, FunctionCode
from tests.fidelity.rows import fidelity
from tests.nxunit.jobs import ERROR, FULL, KINDS, NOISE, PARTIAL, TEXT, data, is_terminated, job, raw_deflate, resumed

SMALL = Engine(4_096)


def decompress_in_pieces(engine: Engine, stream: bytes, piece_sizes: list[int], *, repeat: bool = False) -> bytes:
    """Play a client: hand over pieces of source, resend what was not processed, go on until the stream has ended."""
    output, position, crc32, state = b"", 0, 0, None
    turn = 0
    while True:
        piece = stream[position : position + piece_sizes[turn % len(piece_sizes)]]
        first = turn == 0
        request = Job(
            job(FunctionCode.DECOMPRESS if first else FunctionCode.DECOMPRESS_RESUME, crc32=crc32,
                resume=b"" if first else b"t" * 16).crb,
            piece,
            state,
        )  # fmt: skip
        outcome = engine.complete(request)
        if repeat:
            again = engine.complete(request)
            assert (again.csb, again.target) == (outcome.csb, outcome.target)
        csb = outcome.csb
        output, position, crc32, state = output + outcome.target, position + csb.processed_bytes, csb.crc32, None
        if csb.ended:
            assert position == len(stream)
            assert crc32 == zlib.crc32(output)
            return output
        assert (csb.code, csb.extension) == (CompletionCode.DATA_LENGTH, PARTIAL)
        assert csb.target_bytes or csb.processed_bytes or not piece, "a request without progress"
        assert position < len(stream) or csb.processed_bytes == len(piece)
        state = outcome.suspended
        turn += 1
        assert turn < 10_000


@fidelity("2 requests", "A request never overwrites its inputs, so that it can be sent again.", source="UM p.55")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece_bytes", [700, 4_096, 100_000])
def test_a_stream_in_pieces_comes_out_whole(kind: str, piece_bytes: int) -> None:
    plain = KINDS[kind][:200_000]
    assert decompress_in_pieces(SMALL, raw_deflate(plain), [piece_bytes], repeat=True) == plain


@fidelity(
    "2 accelerator",
    "A decompression whose source was all delivered when the target's count crosses the limit completes normally.",
    source="UM p.67",
    differs="It is suspended all the same; its last byte of source is asked for again, so that there is something to "
    "resume with.",
)
@pytest.mark.parametrize("limit_bytes", [1, 7, 258, 1_000])
@pytest.mark.parametrize("piece_bytes", [1, 2, 5])
def test_few_bytes_of_source_that_hold_much_output_make_progress(limit_bytes: int, piece_bytes: int) -> None:
    """Each byte of this stream stands for about a thousand of output: the limit is reached with all source taken."""
    plain = bytes(8_000) + b"end"
    stream = raw_deflate(plain, 9)
    assert decompress_in_pieces(Engine(limit_bytes), stream, [piece_bytes], repeat=True) == plain


def test_a_full_target_without_more_to_come_has_processed_all_source() -> None:
    machine = zlib.compressobj(0, zlib.DEFLATED, -15)
    block = machine.compress(NOISE[:4_096]) + machine.flush(zlib.Z_SYNC_FLUSH)
    outcome = SMALL.complete(job(FunctionCode.DECOMPRESS, block))
    assert (outcome.csb.target_bytes, outcome.csb.processed_bytes) == (4_096, len(block))
    last = SMALL.complete(resumed(machine.flush(), outcome.suspended))
    assert (last.csb.code, last.csb.ended, last.target) == (CompletionCode.OK, True, b"")


def test_a_target_of_exactly_the_limit_is_suspended_not_exhausted() -> None:
    outcome = SMALL.complete(job(FunctionCode.DECOMPRESS, raw_deflate(TEXT[:10_000]), target_bytes=4_096))
    assert (outcome.csb.code, outcome.csb.extension) == (CompletionCode.DATA_LENGTH, PARTIAL)
    assert outcome.target == TEXT[:4_096]
    outcome = SMALL.complete(job(FunctionCode.DECOMPRESS, raw_deflate(TEXT[:10_000]), target_bytes=4_095))
    assert is_terminated(outcome, CompletionCode.TARGET_SPACE)


@fidelity("2 accelerator", "The limit counts target bytes when decompressing.", source="UM p.56-57")
def test_the_limit_suspends_with_source_left_over() -> None:
    stream = raw_deflate(bytes(1 << 20), 9)
    outcome = SMALL.complete(job(FunctionCode.DECOMPRESS, stream))
    assert (outcome.csb.code, outcome.csb.extension) == (CompletionCode.DATA_LENGTH, PARTIAL)
    assert outcome.csb.target_bytes == 4_096
    assert outcome.csb.processed_bytes < len(stream)
    assert not outcome.csb.ended


def test_output_of_exactly_the_limit_completes() -> None:
    for plain in (TEXT[:4_096], NOISE[:4_096], bytes(4_096)):
        for level in (0, 1, 9):
            outcome = SMALL.complete(job(FunctionCode.DECOMPRESS, raw_deflate(plain, level)))
            assert (outcome.csb.code, outcome.csb.extension, outcome.target) == (CompletionCode.OK, FULL, plain)


def test_output_of_exactly_the_limit_in_a_resumed_job_completes() -> None:
    stream = raw_deflate(bytes(8_192), 9)
    first = SMALL.complete(job(FunctionCode.DECOMPRESS, stream))
    second = SMALL.complete(resumed(stream[first.csb.processed_bytes :], first.suspended))
    assert (second.csb.code, second.csb.ended, second.target) == (CompletionCode.OK, True, bytes(4_096))


@fidelity(
    "2 requests",
    "Source that ends before the stream is completion code 3, partial, and can be resumed.",
    source="UM p.66-71",
)
def test_source_that_ends_early_can_be_continued() -> None:
    stream = raw_deflate(TEXT[:3_000])
    first = SMALL.complete(job(FunctionCode.DECOMPRESS, stream[:-1]))
    assert (first.csb.code, first.csb.extension, first.csb.ended) == (CompletionCode.DATA_LENGTH, PARTIAL, False)
    assert first.csb.processed_bytes == len(stream) - 1
    second = SMALL.complete(resumed(stream[-1:], first.suspended))
    assert first.target + second.target == TEXT[:3_000]
    assert second.csb.ended


def test_trailing_source_after_a_resumed_stream_is_left_over() -> None:
    stream = raw_deflate(TEXT[:3_000])
    first = SMALL.complete(job(FunctionCode.DECOMPRESS, stream[:100]))
    second = SMALL.complete(resumed(stream[100:] + b"next member", first.suspended))
    assert (second.csb.extension, second.csb.ended) == (PARTIAL, True)
    assert second.csb.processed_bytes == len(stream) - 100


@fidelity("2 requests", "A request never overwrites its inputs, so that it can be sent again.", source="UM p.55")
def test_a_failed_resume_can_be_tried_again_from_the_same_state() -> None:
    stream = raw_deflate(TEXT[:6_000])
    first = SMALL.complete(job(FunctionCode.DECOMPRESS, stream))
    rest = stream[first.csb.processed_bytes :]
    assert is_terminated(SMALL.complete(resumed(rest, first.suspended, target_bytes=10)), CompletionCode.TARGET_SPACE)
    assert SMALL.complete(resumed(NOISE[:5_000], first.suspended)).csb.extension == ERROR
    second = SMALL.complete(resumed(rest, first.suspended))
    assert first.target + second.target == TEXT[:6_000]


def test_a_resume_without_source_gives_what_was_pending() -> None:
    stream = raw_deflate(bytes(100_000), 9)
    outcome = SMALL.complete(job(FunctionCode.DECOMPRESS, stream))
    produced, state = outcome.target, outcome.suspended
    for _ in range(3):
        outcome = SMALL.complete(resumed(b"", state))
        produced, state = produced + outcome.target, outcome.suspended
    assert produced == bytes(len(produced))
    assert outcome.csb.processed_bytes == 0


def test_the_last_byte_is_asked_for_again_while_its_output_is_pending() -> None:
    plain = bytes(3_000)
    stream = raw_deflate(plain, 9, zlib.Z_FIXED)
    engine = Engine(20)
    outcome = engine.complete(job(FunctionCode.DECOMPRESS, stream[:2]))
    output, position, held_back = outcome.target, outcome.csb.processed_bytes, 0
    while not outcome.csb.ended:
        for source in (b"", stream[position : position + 1]):
            outcome = engine.complete(resumed(source, outcome.suspended))
            output, position = output + outcome.target, position + outcome.csb.processed_bytes
            if len(outcome.target) == 20 and source:
                assert outcome.csb.processed_bytes == 0
                held_back += 1
            assert len(output) <= len(plain)
    assert (output, position) == (plain, len(stream))
    assert held_back > 10


@pytest.mark.parametrize("by_block", [False, True], ids=["whole", "by blocks"])
def test_the_end_is_reached_when_its_byte_has_come_again_and_not_before(by_block: bool) -> None:
    """The last match and the end of the stream are in one byte, which a full output gives back."""
    stream = raw_deflate(b"\xff" * 6, 9, zlib.Z_FIXED)
    done = inflate(stream, b"", 1, by_block=by_block)
    output, position = done.target, done.consumed_bytes
    while not done.ended:
        for source in (b"", stream[position:]):
            if done.state is None:
                break
            done = resume_inflate(done.state, source, 1, by_block=by_block)
            output, position = output + done.target, position + done.consumed_bytes
            assert not (done.ended and position < len(stream))
    assert (output, position) == (zlib.decompress(stream, -15), len(stream))


def test_what_a_suspended_state_keeps_is_small() -> None:
    """A state must not hold on to the source it was made from."""
    stream = raw_deflate(NOISE)
    states: list[Suspended | None] = [SMALL.complete(job(FunctionCode.DECOMPRESS, stream)).suspended for _ in range(3)]
    for state in states:
        assert state is not None
        assert len(getattr(state, "machine").unconsumed_tail) <= 16_384  # noqa: B009 - not in the port


@settings(deadline=None, max_examples=250)
@given(
    plain=data(),
    sizes=st.lists(st.integers(1, 9_000), min_size=1, max_size=4),
    level=st.sampled_from((0, 1, 6, 9)),
    strategy=st.sampled_from((0, zlib.Z_FIXED, zlib.Z_RLE)),
    limit_bytes=st.sampled_from((100, 700, 4_096, 20_000)),
)
def test_any_cut_of_any_stream_gives_the_same_bytes(
    plain: bytes, sizes: list[int], level: int, strategy: int, limit_bytes: int
) -> None:
    stream = raw_deflate(plain, level, strategy)
    sizes = [max(size, len(stream) // 200) for size in sizes]
    limit_bytes = max(limit_bytes, len(plain) // 200)
    assert decompress_in_pieces(Engine(limit_bytes), stream, sizes, repeat=True) == plain
