"""Whatever happens in between, what was compressed comes back, and every byte has exactly one handler."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Literal

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lpar.client import DirectionStatistics, NxGzip, Request, Statistics
from protocol.codes import CompletionCode, FallbackReason
from tests.client.test_compress import PART, TEXT, limit_to
from tests.client.world import World

ROUNDS = 3
UNIT_LIMIT = 20_000
"""Less than the kernel says, as while high-priority work waits: many requests are suspended."""
Shape = tuple[int, int, int]
HAS_LZO = importlib.util.find_spec("lzo") is not None
Form = Literal["gzip", "zlib", "raw", "mixed"]
FORMS: list[Form] = ["gzip", "zlib", "raw", "mixed"] if HAS_LZO else ["gzip", "zlib", "raw"]


def data_of(shape: Shape) -> bytes:
    """Text, noise and zeros of the given lengths."""
    text, noise, zeros = shape
    return TEXT[:text] + Random(noise).randbytes(noise) + bytes(zeros)


TROUBLES = (
    "refusals", "faults", "remaps", "failed_faults", "lost_requests", "repeats", "suspensions", "resumptions",
    "reopenings", "timeouts", "restarts", "page_faults",
)  # fmt: skip
SHAPES = st.tuples(st.integers(0, 3 * PART), st.integers(0, PART), st.integers(0, 3 * PART))


def suspends_at_random(world: World) -> Callable[[], int]:
    """Byte counts at which high-priority work comes in: mostly none does."""
    return lambda: world.random.randrange(1, UNIT_LIMIT) if world.random.random() < 0.3 else UNIT_LIMIT


class Pages:
    """Pages that are gone when a request needs them, now and then, and at times for long."""

    def __init__(self, world: World, rate: float) -> None:
        self.world = world
        self.rate = rate
        self.gone_until_us = 0

    def __call__(self, request: Request) -> Request:
        world, random = self.world, self.world.random
        if random.random() < self.rate / 4:
            self.gone_until_us = world.now_us + random.randrange(1_000, 400_000)
        if world.now_us >= self.gone_until_us and random.random() >= self.rate:
            return request
        match random.randrange(3):
            case 0:
                return replace(request, absent_source=frozenset({0, 1}))
            case 1:
                return replace(request, absent_target=frozenset({0}))
            case _:
                return replace(request, csb_present=False)


class Trouble:
    """Does something bad now and then, as the seed has it, and ends it again soon."""

    def __init__(self, world: World, rate: float) -> None:
        self.world = world
        self.rate = rate
        world.before_delivery = self.strike

    def strike(self, _key: str, _envelope: object) -> None:
        world = self.world
        if world.random.random() >= self.rate:
            return
        kernel, unit = world.kernel, world.random.choice(list(world.units.values()))
        match world.random.randrange(7):
            case 0:
                kernel.suspend()
                world.later(world.random.randrange(100, 50_000), lambda: kernel.resume(unit))
            case 1:
                kernel.move(unit)
            case 2:
                unit.refuse_next = world.random.randrange(1, 50)
            case 3:
                unit.swallow_next = world.random.randrange(1, 3)
            case 4:
                unit.states.clear()
            case 5:
                unit.codes.append(world.random.choice([CompletionCode.HARDWARE, CompletionCode.TARGET_SPACE]))
            case _:
                unit.mute = True
                world.later(world.random.randrange(100, 3_000_000), lambda: setattr(unit, "mute", False))


def assert_accounted(picture: DirectionStatistics, bytes_in: int) -> None:
    assert picture.is_balanced
    assert picture.bytes_in == bytes_in


def check(shape: Shape, form: Form, on_suspend: str, seed: int, rate: float, loss: float) -> Statistics:
    world = World(seed)
    limit_to(world, PART)
    for unit in world.units.values():
        unit.limit_bytes = UNIT_LIMIT
        unit.suspend_at = suspends_at_random(world)
    nx = NxGzip(
        world.lpar(),
        on_suspend=on_suspend,
        fallback="lzo" if form == "mixed" else "zlib",
        timeout=2.0,
        patience=0.05,
        reopen_timeout=1.0,
        fault_timeout=0.2,
        level=1,
        paging=Pages(world, rate / 2),
    )
    world.loss, world.repeat = loss, loss
    Trouble(world, rate)
    data = data_of(shape)
    taken = given = 0
    for _ in range(ROUNDS):
        if form == "mixed":
            compressed = nx.compress(data)
        else:
            compressed = nx.compress(data, form)
            assert zlib_reads(compressed, form) == data
        assert nx.decompress(compressed, "raw" if form == "raw" else None) == data
        foreign = gzip.compress(data, 1)
        assert nx.decompress(foreign) == data
        taken, given = taken + len(data), given + len(compressed) + len(foreign)
        assert_accounted(nx.statistics().compress, taken)
        assert_accounted(nx.statistics().decompress, given)
    return nx.statistics()


def zlib_reads(compressed: bytes, form: Form) -> bytes:
    """What an independent reader makes of it."""
    if form == "gzip":
        return gzip.decompress(compressed)
    return zlib.decompress(compressed, 15 if form == "zlib" else -15)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SHAPES, st.sampled_from(FORMS), st.sampled_from(["software", "reopen"]), st.integers(0, 1 << 32))
def test_nothing_is_lost_while_windows_units_and_messages_come_and_go(
    shape: Shape, form: Form, on_suspend: str, seed: int
) -> None:
    check(shape, form, on_suspend, seed, rate=0.1, loss=0.02)


def test_the_troubles_of_these_tests_do_happen() -> None:
    seen: dict[str, int] = {}
    for seed in range(8):
        for on_suspend in ("software", "reopen"):
            picture = check((2 * PART, PART, 2 * PART), FORMS[seed % len(FORMS)], on_suspend, seed, 0.1, 0.02)
            for name in TROUBLES:
                seen[name] = seen.get(name, 0) + getattr(picture, name)
            for reason in FallbackReason:
                seen[reason] = (
                    seen.get(reason, 0) + picture.compress.fallback[reason] + picture.decompress.fallback[reason]
                )
    never = {FallbackReason.MODE, FallbackReason.SMALL, FallbackReason.OPEN_REFUSED, FallbackReason.SESSION_DEAD}
    never.add(FallbackReason.DELAY)
    assert {name for name, count in seen.items() if not count} <= never, seen


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SHAPES, st.sampled_from(FORMS), st.integers(0, 1 << 32))
@example((0, 0, 0), FORMS[-1], 0)
@example((0, 0, 0), "raw", 0)
@example((PART, 0, 0), "zlib", 0)
@example((0, PART, 0), "gzip", 0)
def test_nothing_falls_back_while_nothing_happens(shape: Shape, form: Form, seed: int) -> None:
    world = World(seed)
    limit_to(world, PART)
    nx = NxGzip(world.lpar(), "nx", fallback="lzo" if form == "mixed" else "zlib")
    data = data_of(shape)
    compressed = nx.compress(data) if form == "mixed" else nx.compress(data, form)
    assert nx.decompress(compressed, "raw" if form == "raw" else None) == data
    assert_accounted(nx.statistics().decompress, len(compressed))
    picture = nx.statistics()
    assert picture.compress.nx_bytes == len(data)
    assert picture.compress.software_bytes == picture.decompress.software_bytes == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SHAPES, st.integers(0, 1 << 32), st.integers(1, 6))
def test_windows_that_go_and_come_back_cost_nothing_but_time(shape: Shape, seed: int, times: int) -> None:
    world = World(seed)
    limit_to(world, PART)
    nx = NxGzip(world.lpar())
    data = data_of(shape)
    for _ in range(times):
        assert gzip.decompress(nx.compress(data)) == data
        world.kernel.suspend()
        assert gzip.decompress(nx.compress(data)) == data
        world.kernel.resume()
    picture = nx.statistics()
    assert_accounted(picture.compress, 2 * times * len(data))
    if len(data) > 1024:
        assert picture.suspensions == times
        assert picture.resumptions == times - 1
        assert picture.compress.nx_bytes == times * len(data)
