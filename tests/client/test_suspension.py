"""Requests that their unit suspends at its low byte-count limit: the rest follows, and little is sent in vain."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lpar.client import Lpar, NxGzip
from lpar.client.gzip_work import Format
from lpar.client.pace import LEAST_BYTES, Pace
from protocol.link import BULK_LIMIT_BYTES
from protocol.paste_messages import HISTORY_MAX_BYTES, Paste
from tests.client.test_compress import NOISE, TEXT, limit_to
from tests.client.world import World

LOW_BYTES = 65_536
LIMIT_BYTES = 1 << 20
LARGE = (TEXT + NOISE) * 6
HAS_LZO = importlib.util.find_spec("lzo") is not None
FORMS = ["gzip", "zlib", "raw", "mixed"] if HAS_LZO else ["gzip", "zlib", "raw"]


def nx_of(world: World, form: str) -> NxGzip:
    return NxGzip(world.lpar(), "nx", fallback="lzo" if form == "mixed" else "zlib")


def compress(nx: NxGzip, data: bytes, form: str) -> bytes:
    return nx.compress(data) if form == "mixed" else nx.compress(data, form)  # type: ignore[arg-type]


def decompress(nx: NxGzip, data: bytes, form: str) -> bytes:
    chosen: Format | None = "raw" if form == "raw" else None
    return nx.decompress(data, chosen)


def sent_bytes(world: World) -> int:
    """Source and history on the wire since the last time."""
    total = sum(len(envelope.frames[0]) for envelope in world.sent_of(Paste))
    world.sent.clear()
    return total


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.tuples(st.integers(0, 60_000), st.integers(0, 40_000), st.integers(0, 60_000)),
    st.sampled_from(FORMS),
    st.integers(0, 1 << 32),
    st.integers(1, LOW_BYTES),
)
def test_jobs_suspended_at_any_byte_lose_nothing(
    shape: tuple[int, int, int], form: str, seed: int, ceiling: int
) -> None:
    world = World(seed)
    limit_to(world, LOW_BYTES)
    text, noise, zeros = shape
    data = TEXT[:text] + Random(seed).randbytes(noise) + bytes(zeros)
    for unit in world.units.values():
        unit.suspend_at = lambda: world.random.randrange(512, ceiling + 1024)
    nx = nx_of(world, form)
    compressed = compress(nx, data, form)
    if form != "mixed":
        assert zlib_reads(compressed, form) == data
    assert decompress(nx, compressed, form) == data
    assert nx.decompress(gzip.compress(data)) == data
    picture = nx.statistics()
    assert picture.compress.nx_bytes == picture.compress.bytes_in == len(data)
    assert picture.decompress.software_bytes == 0
    assert picture.restarts == 0


def zlib_reads(compressed: bytes, form: str) -> bytes:
    if form == "gzip":
        return gzip.decompress(compressed)
    return zlib.decompress(compressed, 15 if form == "zlib" else -15)


@pytest.mark.parametrize("form", FORMS)
def test_while_high_priority_work_waits_little_source_is_sent_in_vain(form: str) -> None:
    world = World()
    limit_to(world, LIMIT_BYTES)
    for unit in world.units.values():
        unit.suspend_at = lambda: LOW_BYTES
    nx = nx_of(world, form)
    world.sent.clear()
    compressed = compress(nx, LARGE, form)
    assert sent_bytes(world) < 2.2 * len(LARGE)
    assert decompress(nx, compressed, form) == LARGE
    assert sent_bytes(world) < 2.2 * len(compressed)
    jobs = world.nx0.executed + world.nx1.executed
    assert jobs < 2.2 * 2 * len(LARGE) / LOW_BYTES


@pytest.mark.parametrize("form", FORMS)
def test_when_no_work_waits_any_more_requests_grow_to_the_limit_again(form: str) -> None:
    world = World()
    limit_to(world, LIMIT_BYTES)
    high_priority_waits = True
    for unit in world.units.values():
        unit.suspend_at = lambda: LOW_BYTES if high_priority_waits else LIMIT_BYTES
    nx = nx_of(world, form)
    compress(nx, LARGE, form)
    high_priority_waits = False
    compress(nx, LARGE, form)
    world.sent.clear()
    before = nx.statistics().requests
    compress(nx, LARGE, form)
    assert sent_bytes(world) < 1.1 * len(LARGE)
    assert nx.statistics().requests - before <= 1.1 * len(LARGE) / LIMIT_BYTES + 1


def test_a_suspended_stream_compresses_nearly_as_well(world: World, lpar: Lpar) -> None:
    limit_to(world, LIMIT_BYTES)
    nx = NxGzip(lpar, "nx")
    whole = len(nx.compress(TEXT * 6))
    for unit in world.units.values():
        unit.suspend_at = lambda: LOW_BYTES
    assert len(nx.compress(TEXT * 6)) < 1.1 * whole


@given(st.lists(st.tuples(st.integers(1, BULK_LIMIT_BYTES), st.floats(0, 1)), max_size=40))
def test_the_pace_stays_within_its_bounds(events: list[tuple[int, float]]) -> None:
    pace = Pace()
    for wanted_bytes, share in events:
        sent_bytes = min(wanted_bytes, pace.source_bytes)
        pace.learn(sent_bytes, int(share * sent_bytes))
        assert LEAST_BYTES <= pace.source_bytes <= BULK_LIMIT_BYTES
        assert pace.history_bytes <= min(HISTORY_MAX_BYTES, pace.source_bytes / 4)


def test_a_small_request_says_nothing_about_how_much_would_go() -> None:
    pace = Pace(100_000)
    pace.learn(500, 500)
    assert pace.source_bytes == 100_000
    pace.learn(100_000, 100_000)
    assert pace.source_bytes == 200_000
    pace.learn(200_000, 30_000)
    assert pace.source_bytes == 30_000
