"""on_suspend="reopen": what is decided before the first job of a call, by size, delay, mode and spare credit."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable

import pytest

from lpar.client import Lpar, NxError, NxGzip
from lpar.client.accelerator import Unavailable
from lpar.client.delay import TICKS_PER_US, DelayAverage
from lpar.client.shared_windows import SharedWindows
from lpar.client.streams import decompress_stream
from protocol import device_messages as device
from protocol.codes import FallbackReason
from tests.client.kernel import LIMIT
from tests.client.reopen import NEVER, credits_are, reopening
from tests.client.test_compress import NOISE, PART, TEXT, limit_to
from tests.client.test_fallback import PARTS, fallback, opens
from tests.client.world import World
from tests.fidelity.rows import fidelity


@pytest.fixture(autouse=True)
def small_parts(world: World) -> None:
    limit_to(world, PART)


@fidelity(
    "7 libnxz",
    "The average delay is (new + 4 * average) / 5 in timebase ticks; samples above 1 s or below 0.1 us are dropped; a "
    "stream in software takes a quarter off.",
    source="LNX:lib/nx_zlib.h",
)
def test_the_average_delay_moves_by_a_fifth_and_decays_by_a_quarter() -> None:
    average = DelayAverage(1_000)
    average.observe(100)
    assert average.average_ticks == 100 * TICKS_PER_US // 5
    average.observe(100)
    assert average.average_ticks == (51_200 + 4 * 10_240) // 5
    before = average.average_ticks
    for dropped_us in (0, 1_000_001, NEVER):
        average.observe(dropped_us)
    assert average.average_ticks == before
    average.observe(1_000_000)
    assert average.average_ticks == (512_000_000 + 4 * before) // 5
    before = average.average_ticks
    average.used_software()
    assert average.average_ticks == before - before // 4


@fidelity(
    "7 libnxz",
    "In mode AUTO a stream stays in software while the average delay is above 100,000,000 ticks (195 ms) for "
    "compression, 17,000,000 (33 ms) for decompression.",
    source="LNX:lib/nx_zlib.h",
)
@pytest.mark.parametrize("compresses", [True, False])
def test_above_the_average_delay_a_call_stays_in_software(world: World, lpar: Lpar, compresses: bool) -> None:
    limit_ticks = 100_000_000 if compresses else 17_000_000
    packed = gzip.compress(TEXT)
    delay = world.core.windows.delay(compresses=compresses)
    nx, strict = reopening(lpar), reopening(lpar, "nx")

    def call(user: NxGzip) -> int:
        """Bytes that software has handled in this direction after another call."""
        if compresses:
            user.compress(PARTS)
            return user.statistics().compress.fallback[FallbackReason.DELAY]
        user.decompress(packed)
        return user.statistics().decompress.fallback[FallbackReason.DELAY]

    delay.average_ticks = limit_ticks
    assert call(nx) == 0
    delay.average_ticks = limit_ticks + 1
    assert call(strict) == 0, "only AUTO minds"
    delay.average_ticks = limit_ticks + 1
    assert call(nx) == (len(PARTS) if compresses else len(packed))
    assert delay.average_ticks == limit_ticks + 1 - (limit_ticks + 1) // 4
    assert call(nx) == (len(PARTS) if compresses else len(packed)), "the accelerator is tried again after the decay"


def test_every_job_is_a_sample_of_its_direction(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar)
    windows: SharedWindows = world.core.windows
    packed = nx.compress(TEXT[:PART])
    assert windows.compress_delay.average_ticks > 0
    assert windows.decompress_delay.average_ticks == 0
    nx.decompress(packed)
    assert windows.decompress_delay.average_ticks > 0


@fidelity(
    "7 libnxz",
    "In mode AUTO a stream that ends with at most 1024 bytes before its first job stays in software, in both "
    "directions.",
    source="LNX:lib/nx_zlib.h",
)
@pytest.mark.parametrize(("length", "small"), [(1024, True), (1025, False)])
def test_up_to_1024_bytes_stay_in_software_in_mode_auto(lpar: Lpar, length: int, small: bool) -> None:
    nx, strict = reopening(lpar), reopening(lpar, "nx")
    nx.compress(TEXT[:length])
    assert fallback(nx) == ({FallbackReason.SMALL: length} if small else {})
    strict.compress(TEXT[:length])
    assert fallback(strict) == {}
    stored = gzip.compress(NOISE[: length - 23], 0)
    assert len(stored) == length
    nx.decompress(stored)
    assert nx.statistics().decompress.fallback[FallbackReason.SMALL] == (length if small else 0)


@pytest.mark.parametrize(
    ("mode", "compresses", "decompresses"),
    [("auto", True, True), ("software", True, True), ("nx", False, False), ("mix", False, True)],
)
def test_with_one_credit_left_the_modes_differ(
    world: World, lpar: Lpar, mode: str, compresses: bool, decompresses: bool
) -> None:
    """The friendly interface's half of the selector matrix; the explicit one's is in test_libnxz.py."""
    credits_are(world, 40, 39)
    nx = reopening(lpar, mode)
    packed = gzip.compress(TEXT)
    if compresses:
        assert gzip.decompress(nx.compress(TEXT)) == TEXT
    else:
        assert refused_open(lambda: nx.compress(TEXT))
    if decompresses:
        assert nx.decompress(packed) == TEXT
    else:
        assert refused_open(lambda: nx.decompress(packed))
    assert opens(world) == 0


def refused_open(call: Callable[[], bytes]) -> bool:
    """Whether a call ends with NxError because one credit has to stay spare."""
    with pytest.raises(NxError) as refused:
        call()
    assert isinstance(refused.value.__cause__, Unavailable)
    spare = refused.value.__cause__.__cause__
    return refused.value.reason is FallbackReason.OPEN_REFUSED and isinstance(spare, BlockingIOError)


def test_a_call_that_was_refused_a_window_is_in_software_as_a_whole(world: World, lpar: Lpar) -> None:
    credits_are(world, 40, 39)
    nx = reopening(lpar)
    world.kernel.executed.clear()
    assert gzip.decompress(nx.compress(TEXT)) == TEXT
    assert fallback(nx) == {FallbackReason.OPEN_REFUSED: len(TEXT)}
    reads = [body for body in world.kernel.executed if isinstance(body, device.ReadFile) and body.path != LIMIT]
    assert len(reads) == 2, "the counters are read once for the whole call"
    credits_are(world, 40, 10)
    nx.compress(TEXT)
    assert nx.statistics().compress.nx_bytes == len(TEXT), "the next call tries again, without a rest"


@pytest.mark.parametrize("slow", [False, True])
def test_a_file_in_pieces_follows_the_same_rules(world: World, lpar: Lpar, slow: bool) -> None:
    packed, target = gzip.compress(TEXT), io.BytesIO()
    if slow:
        world.core.windows.decompress_delay.average_ticks = 17_000_001
    else:
        credits_are(world, 40, 39)
    nx = reopening(lpar)
    assert decompress_stream(nx, io.BytesIO(packed), target) == len(TEXT)
    assert target.getvalue() == TEXT
    reason = FallbackReason.DELAY if slow else FallbackReason.OPEN_REFUSED
    assert nx.statistics().decompress.fallback[reason] == len(packed)
    assert opens(world) == 0
