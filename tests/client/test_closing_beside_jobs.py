"""A window that is closed beside jobs on it: it goes with the last of them, whatever the moment."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lpar.client import Lpar, NxGzip
from lpar.client.libnxz import Libnxz, Status, Stream
from lpar.client.shared_windows import REUSE_MOST
from lpar.client.statistics import Ledger
from lpar.client.steps import Procedure
from lpar.client.tasks import Task
from tests.client.kernel import LIMIT
from tests.client.reopen import SETTINGS, credits_are, reopening
from tests.client.servers import serving
from tests.client.test_compress import PART, limit_to
from tests.client.test_driver import eventually
from tests.client.test_fallback import PARTS
from tests.client.world import World

SETTINGS_OF_A_CHIP = replace(SETTINGS, vas_id=1)
TURNS = 60
"""More than a call of three requests takes."""
ROUNDS = 8
Start = Callable[[World, Lpar], tuple[Task[Any], Procedure[Any]]]


def by_nx_gzip(world: World, lpar: Lpar) -> tuple[Task[Any], Procedure[Any]]:
    nx = reopening(lpar)
    nx.open()
    credits_are(world, 40, 39)
    return world.start(nx._work.compress(memoryview(PARTS), "gzip", 0)), nx._work.accelerator.close()


def by_stream(world: World, lpar: Lpar) -> tuple[Task[Any], Procedure[Any]]:
    library, stream = Libnxz(lpar, prefixed=True), Stream(PARTS)
    assert library.deflate_init(stream) is Status.Z_OK
    credits_are(world, 40, 39)
    return world.start(library.api.deflate(stream, 0)), library.api.end(stream)


def calm(_world: World) -> None:
    """Nothing else happens."""


def suspension(world: World) -> None:
    """The window loses its credit, and credits come back while its job opens another one."""
    world.kernel.suspend()
    credits_are(world, 20, 39)
    world.later(100_000, lambda: setattr(world.kernel, "total", 40))
    world.later(100_000, lambda: credits_are(world, 40, 39))


def busy_units(world: World) -> None:
    world.nx0.refuse_next = world.nx1.refuse_next = 10


def left_over(world: World) -> list[object]:
    """What is still open, or still going on, once everything has settled."""
    world.pass_time(2_000_000)
    kernel, core = world.kernel, world.core
    return [*kernel.windows, *kernel.descriptors, *core.windows._saved, *core.windows._left, *core.scheduler.tasks]


@pytest.mark.parametrize("trouble", [calm, suspension, busy_units])
@pytest.mark.parametrize("start", [by_nx_gzip, by_stream])
def test_a_window_that_is_closed_beside_a_job_goes_with_the_job(start: Start, trouble: Callable[[World], None]) -> None:
    left: dict[int, list[object]] = {}
    beside = 0
    for turns in range(TURNS):
        world = World()
        limit_to(world, PART)
        task, close = start(world, world.lpar())
        trouble(world)
        for _ in range(turns):
            world.turn()
        beside += not task.done
        world.run(close)
        result = world.finish(task)
        if isinstance(result, bytes):
            assert gzip.decompress(result) == PARTS
        if found := left_over(world):
            left[turns] = found
    assert not left
    assert beside > 5


@pytest.mark.parametrize("trouble", [calm, suspension])
@pytest.mark.parametrize("start", [by_nx_gzip, by_stream])
@pytest.mark.parametrize("closes_first", [True, False])
def test_a_window_whose_last_job_is_cancelled_goes_with_it(
    start: Start, trouble: Callable[[World], None], closes_first: bool
) -> None:
    left: dict[int, list[object]] = {}
    for turns in range(TURNS):
        world = World()
        limit_to(world, PART)
        task, close = start(world, world.lpar())
        trouble(world)
        for _ in range(turns):
            world.turn()
        closing = world.start(close) if closes_first else None
        world.turn()
        world.core.cancel(task, world.now_us)
        world._settle()
        world.finish(closing or world.start(close))
        credits_are(world, 40, 39)
        if found := left_over(world):
            left[turns] = found
    assert not left


@pytest.mark.parametrize("trouble", [calm, suspension])
@pytest.mark.parametrize("name", ["compress", "uncompress"])
def test_a_whole_call_that_is_cancelled_has_no_use_of_the_window_any_more(
    name: str, trouble: Callable[[World], None]
) -> None:
    left: dict[int, list[object]] = {}
    for turns in range(TURNS):
        world = World()
        limit_to(world, PART)
        lpar = world.lpar()
        api = Libnxz(lpar, prefixed=True).api
        data = PARTS if name == "compress" else zlib.compress(PARTS)
        task = world.start(getattr(api, name)(Stream(data), 0))
        world.later(1_000, partial(trouble, world))
        for _ in range(turns):
            world.turn()
        if not task.done:
            world.core.cancel(task, world.now_us)
            world._settle()
        # The next to come and go finds nobody else on the window.
        world.pass_time(1_000_000)
        credits_are(world, 40, 10)
        with reopening(lpar) as nx:
            nx.open()
            credits_are(world, 40, 39)
        if found := left_over(world):
            left[turns] = found
    assert not left


def test_threads_whose_window_is_closed_beside_them_leave_nothing_open(tmp_path: Path) -> None:
    """Over sockets: two credits, of which one stays spare, so that a window is given back with its last user."""

    def work(nx: NxGzip, closed: threading.Event) -> bool:
        calls = 0
        while not closed.is_set() or calls < 2:
            calls += 1
            if gzip.decompress(nx.compress(PARTS)) != PARTS:
                return False
        return True

    with (
        serving(tmp_path) as servers,
        Lpar(servers.endpoint, timeout=10.0) as process,
        ThreadPoolExecutor(3) as pool,
    ):
        servers.kernel.total = 2
        servers.kernel.files[LIMIT] = f"{PART}\n"
        for _ in range(ROUNDS):
            closed = threading.Event()
            nx = reopening(process)
            nx.open()
            working = [pool.submit(work, nx, closed) for _ in range(3)]
            eventually(lambda: nx.statistics().accepted >= 3)  # noqa: B023 (called at once)
            nx.close()
            closed.set()
            assert all(call.result(30) for call in working)
            nx.close()
            assert not servers.kernel.descriptors
            assert not servers.kernel.mappings


@pytest.mark.parametrize("turns", range(0, 14, 2))
def test_a_close_that_is_cancelled_gives_the_window_back_all_the_same(world: World, turns: int) -> None:
    nx = reopening(world.lpar())
    nx.open()
    credits_are(world, 40, 39)
    closing = world.start(nx._work.accelerator.close())
    for _ in range(turns):
        world.turn()
    world.core.cancel(closing, world.now_us)
    world._settle()
    assert left_over(world) == []


def test_a_stream_that_was_ended_beside_its_job_opens_no_other_window(world: World, lpar: Lpar) -> None:
    """Credits are plenty: only the end of the stream keeps it from another one."""
    library, stream = Libnxz(lpar, prefixed=True), Stream(PARTS)
    assert library.deflate_init(stream) is Status.Z_OK
    task = world.start(library.api.deflate(stream, 0))
    assert library.deflate_end(stream) is Status.Z_OK
    assert world.finish(task) in (Status.Z_STREAM_END, Status.Z_STREAM_ERROR)
    (saved,) = world.core.windows._saved.values()
    assert saved.users == 0


def test_requests_of_a_call_beside_which_the_nx_gzip_was_closed_share_the_saved_window(
    world: World, lpar: Lpar
) -> None:
    limit_to(world, PART)
    nx = reopening(lpar)
    nx.open()
    task = world.start(nx._work.compressor.zlib(memoryview(PARTS), 0))
    while not world.kernel.executed or nx.statistics().requests == 0:
        world.turn()
    nx.close()
    assert zlib.decompress(world.finish(task)) == PARTS
    assert nx.statistics().compress.nx_bytes == len(PARTS)
    (saved,) = world.core.windows._saved.values()
    assert (saved.users, len(world.kernel.windows), nx.statistics().opens) == (0, 1, 1)
    assert nx.address is None, "it is the call's, not the NxGzip's"


def test_a_job_that_fails_gives_the_window_back_that_was_closed_beside_it(world: World, lpar: Lpar) -> None:
    limit_to(world, PART)
    nx = reopening(lpar, timeout=2.0)
    nx.open()
    credits_are(world, 40, 39)
    world.nx0.mute = world.nx1.mute = True
    task = world.start(nx._work.compressor.gzip(memoryview(PARTS), 0))
    world.pass_time(10_000)
    nx.close()
    assert len(world.kernel.windows) == 1
    assert gzip.decompress(world.finish(task)) == PARTS
    assert nx.statistics().timeouts == 1
    assert left_over(world) == []


@pytest.mark.parametrize("turns", range(30))
def test_an_open_cancelled_while_it_closes_the_worn_out_window_strands_nobody(world: World, turns: int) -> None:
    windows = world.core.windows
    lpar = world.lpar()
    first = world.run(windows.open(SETTINGS, Ledger(), 0))
    world.run(windows.close(first, SETTINGS))
    first.uses = REUSE_MOST + 1
    opening = world.start(windows.open(SETTINGS, Ledger(), 0))
    for _ in range(turns):
        world.turn()
    if not opening.done:
        world.core.cancel(opening, world.now_us)
        world._settle()
        world.pass_time(100_000)
        assert all(shared.users == 0 for shared in windows._saved.values())
    else:
        world.run(windows.close(opening.outcome(), SETTINGS))
    assert len(world.kernel.windows) == 1
    with reopening(lpar) as nx:
        nx.open()
        credits_are(world, 40, 39)
    assert left_over(world) == []


@pytest.mark.parametrize("again", ["deflate_init", "inflate_init"])
def test_an_init_of_a_stream_that_has_begun_ends_it_first(world: World, lpar: Lpar, again: str) -> None:
    library, stream = Libnxz(lpar, prefixed=True), Stream(PARTS)
    assert library.deflate_init(stream) is Status.Z_OK
    assert getattr(library, again)(stream) is Status.Z_OK
    (saved,) = world.core.windows._saved.values()
    assert saved.users == 1
    library.deflate_end(stream)
    assert saved.users == 0


def test_a_close_that_finds_the_lock_taken_for_too_long_leaves_the_window_to_whoever_has_it(world: World) -> None:
    lpar = world.lpar()
    short = reopening(lpar, timeout=0.1)
    short.open()
    world.kernel.delay["open_device"] = 5_000_000
    other = world.start(world.core.windows.open(SETTINGS_OF_A_CHIP, Ledger(), 0))
    world.pass_time(1_000)
    credits_are(world, 40, 39)
    with pytest.raises(TimeoutError):
        short.close()
    assert len(world.kernel.windows) == 1
    world.kernel.delay.clear()
    shared = world.finish(other)
    assert shared.window is not None
    assert list(world.kernel.descriptors) == [shared.window.descriptor.number]
    assert not world.core.windows.is_untidy
