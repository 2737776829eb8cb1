"""What libnxz does about completion codes: by its own return codes, or as NxGzip."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from lpar.client import Lpar, NxError, NxGzip, Request
from lpar.client.libnxz import Libnxz, Status, Stream
from lpar.client.page_faults import TARGET_LEAST_BYTES
from protocol.codes import CompletionCode, FallbackReason
from protocol.link import BULK_LIMIT_BYTES
from protocol.paste_messages import Paste
from tests.client.test_compress import PART, TEXT, limit_to
from tests.client.world import World
from tests.fidelity.rows import fidelity

PACKED = zlib.compress(TEXT)


@pytest.fixture(autouse=True)
def small_parts(world: World) -> None:
    limit_to(world, PART)


@pytest.fixture
def nx(lpar: Lpar) -> Libnxz:
    return Libnxz(lpar, prefixed=True)


@fidelity(
    "7 libnxz",
    "CC 3 with the terminate bit is Z_STREAM_ERROR from deflate, Z_DATA_ERROR from inflate; so is every code that has "
    "no rule of its own.",
    source="LNX:lib/nx_deflate.c",
)
@pytest.mark.parametrize(
    "code",
    [CompletionCode.DATA_LENGTH, CompletionCode.INVALID_CRB, CompletionCode.HARDWARE, CompletionCode.INVALID_DHT],
)
def test_a_terminated_job_is_an_error_of_its_stream(world: World, nx: Libnxz, code: CompletionCode) -> None:
    for begin, work, data, status in (
        (nx.deflate_init, nx.deflate, TEXT, Status.Z_STREAM_ERROR),
        (nx.inflate_init, nx.inflate, PACKED, Status.Z_DATA_ERROR),
    ):
        stream = Stream(data)
        assert begin(stream) is Status.Z_OK
        world.nx0.codes, world.nx1.codes = [code], [code]
        assert work(stream) is status
        assert stream.error_number == 0
        world.nx0.codes, world.nx1.codes = [], []
        nx.deflate_end(stream)


@fidelity(
    "7 libnxz",
    "CC 250: the pages are touched and the job is submitted again as it was, once; from then on source and target are "
    "halved each time, for up to 300 s.",
    source="LNX:lib/nx_deflate.c",
)
def test_absent_pages_are_touched_once_and_then_the_job_is_halved(world: World, lpar: Lpar) -> None:
    faults_left = 4

    def paging(request: Request) -> Request:
        nonlocal faults_left
        faults_left -= 1
        return request if faults_left < 0 else replace(request, absent_source=frozenset({0}))

    nx = NxGzip(lpar, "nx", "reopen", paging=paging)
    assert zlib.decompress(nx.compress(TEXT[:PART], "zlib")) == TEXT[:PART]
    pasted = [envelope.body.crb.target_bytes for envelope in world.sent_of(Paste) if isinstance(envelope.body, Paste)]
    sources = [len(envelope.frames[0]) for envelope in world.sent_of(Paste)]
    assert sources[:5] == [PART, PART, PART // 2, PART // 4, PART // 8]
    assert pasted[:5] == [pasted[0], pasted[0], pasted[0] // 2, pasted[0] // 4, max(pasted[0] // 8, TARGET_LEAST_BYTES)]


@fidelity(
    "7 libnxz",
    "CC 250: the pages are touched and the job is submitted again as it was, once; from then on source and target are "
    "halved each time, for up to 300 s.",
    source="LNX:lib/nx_deflate.c",
)
def test_pages_that_keep_vanishing_are_borne_for_300_seconds(world: World, lpar: Lpar) -> None:
    for unit in world.units.values():
        unit.later = lambda wait_us, action: world.later(wait_us + 1_000_000, action)
    nx = NxGzip(lpar, "nx", "reopen", paging=lambda request: replace(request, absent_source=frozenset({0})))
    began_us = world.now_us
    with pytest.raises(NxError) as vanished:
        nx.compress(TEXT[:PART])
    assert vanished.value.reason is FallbackReason.PAGE_FAULT
    assert 300_000_000 < world.now_us - began_us < 303_000_000


@fidelity(
    "7 libnxz",
    "CC 13 halves the source (down to 64 KiB for deflate, 300 bytes for inflate) and starts again, however often.",
    source="LNX:lib/nx_deflate.c",
    differs="The target is the library's own here: it is doubled, up to the largest there is; only then inflate halves "
    "its source, down to 300 bytes, and gives up there.",
)
def test_a_target_that_is_never_large_enough_halves_the_source_of_inflate(world: World, nx: Libnxz) -> None:
    stream = Stream(PACKED)
    assert nx.inflate_init(stream) is Status.Z_OK
    for unit in world.units.values():
        unit.codes = [CompletionCode.TARGET_SPACE] * 100
    assert nx.inflate(stream) is Status.Z_DATA_ERROR
    crbs = [envelope.body.crb for envelope in world.sent_of(Paste) if isinstance(envelope.body, Paste)]
    sources = [len(envelope.frames[0]) for envelope in world.sent_of(Paste)]
    targets = [crb.target_bytes for crb in crbs]
    doublings = targets.index(BULK_LIMIT_BYTES)
    assert targets == [targets[0] << step for step in range(doublings)] + [BULK_LIMIT_BYTES] * (
        len(targets) - doublings
    )
    assert sources[: doublings + 1] == [sources[0]] * (doublings + 1)
    assert sources[doublings:] == [sources[0] >> step for step in range(len(sources) - doublings)]
    assert sources[-2] > 300 >= sources[-1]
