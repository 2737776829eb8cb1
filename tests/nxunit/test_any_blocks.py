"""Properties of decompression by single blocks, over streams of every kind, cut anywhere, and damaged ones."""

from __future__ import annotations

import zlib

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from nxunit.engine import Engine
from protocol.codes import FunctionCode
from tests.nxunit.block_client import (
    ENGINE,
    FLUSHES,
    LIMIT,
    ONE_BLOCK,
    RESUME_BLOCK,
    TEXT_BLOCK,
    Client,
    flushed,
    place_of,
)
from tests.nxunit.deflate_bits import dynamic_block, fixed_block, stream_of
from tests.nxunit.jobs import NOISE, PARTIAL, ROOM, TEXT, job

blocks: st.SearchStrategy[list[str | bytes]] = st.lists(
    st.binary(max_size=40)
    | st.binary(max_size=40).map(fixed_block)
    | st.sampled_from((TEXT_BLOCK, dynamic_block(), fixed_block(), b"", NOISE[:600], fixed_block(b"\xff"))),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=300)
@given(
    stream=blocks.map(stream_of)
    | st.builds(
        flushed, st.sampled_from((TEXT[:3_000], TEXT[:1_500] + NOISE[:600], bytes(5_000), b"a")),
        st.integers(0, 9), st.sampled_from(FLUSHES), st.integers(1, 9), st.sampled_from((0, zlib.Z_FIXED)),
    ),
    sizes=st.lists(st.integers(0, 30) | st.just(ROOM), min_size=1, max_size=4).filter(any),
    blocks_until=st.just(3_000) | st.integers(1, 20),
    limit_bytes=st.sampled_from((1, 5, 300, LIMIT)),
    low=st.sampled_from((0, 1)),
)  # fmt: skip
@example(stream=b"\x02\xe8?`\x0c\x0c\x0c\x13\x00", sizes=[0, ROOM], blocks_until=3_000, limit_bytes=1, low=0)
def test_any_stream_in_any_pieces_stops_at_its_blocks_and_gives_its_bytes(
    stream: bytes, sizes: list[int], blocks_until: int, limit_bytes: int, low: int
) -> None:
    plain = zlib.decompress(stream, -15)
    client = Client(stream, Engine(max(limit_bytes, len(plain) // 100), max(3, len(plain) // 100)))
    sizes = [size and max(size, len(stream) // 100) for size in sizes]
    while not client.over:
        turn = client.turns
        client.ask(sizes[turn % len(sizes)], whole=turn >= blocks_until, low=low)
        assert client.turns < 3_000
    assert (client.output, client.position, client.crc32) == (plain, len(stream), zlib.crc32(plain))
    assert set(client.stops) <= set(client.ends)
    event(f"{min(len(client.ends), 9)} blocks before the last")
    if client.turns <= blocks_until:
        assert client.stops == client.ends


@settings(deadline=None, max_examples=100)
@given(stream=blocks.map(stream_of), flips=st.lists(st.integers(0, 10_000), min_size=1, max_size=3))
def test_a_damaged_stream_ends_as_zlib_ends_it(stream: bytes, flips: list[int]) -> None:
    """Block by block up to the damage the bytes are those of the whole decompression, and so is the complaint."""
    damaged = bytearray(stream)
    for flip in flips:
        damaged[flip // 8 % len(damaged)] ^= 1 << flip % 8
    source = bytes(damaged)
    whole = ENGINE.complete(job(FunctionCode.DECOMPRESS, source))
    output, position, outcome = b"", 0, ENGINE.complete(job(ONE_BLOCK, source))
    for _ in range(200):
        output, position = output + outcome.target, position + outcome.csb.processed_bytes
        if outcome.suspended is None or (position == len(source) and place_of(outcome.suspended) is None):
            break
        outcome = ENGINE.complete(job(RESUME_BLOCK, source[position:], resume=b"t" * 16, state=outcome.suspended))
        if not outcome.csb.processed_bytes and position == len(source):
            break
    assert outcome.csb.code is whole.csb.code
    if whole.csb.extension == PARTIAL or whole.csb.ended:
        assert (output, outcome.csb.ended) == (whole.target, whole.csb.ended)
