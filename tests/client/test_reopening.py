"""on_suspend="reopen": a window that lost its credit is closed and another one waited for, as libnxz does."""

from __future__ import annotations

import gzip
from itertools import pairwise

import pytest

from lpar.client import Lpar, NxError, shared_window
from lpar.client.shared_window import SUSPECT_US
from protocol import device_messages as device
from protocol.codes import FallbackReason
from tests.client.kernel import TOTAL, USED
from tests.client.reopen import credits_are, moments_of_opens, refuse_pastes, reopening
from tests.client.test_compress import PART, TEXT, limit_to
from tests.client.test_fallback import PARTS, fallback
from tests.client.world import World
from tests.fidelity.rows import fidelity


@pytest.fixture(autouse=True)
def small_parts(world: World) -> None:
    limit_to(world, PART)


@fidelity(
    "7 libnxz",
    "Refused for more than 31.25 ms, with used credits above total - 1, the window counts as suspended: it is closed, "
    "and another one opened in a loop with waits of 31, 62 and 125 ms, over and over.",
    source="LNX:lib/gzip_vas.c",
)
def test_a_suspended_window_is_closed_and_another_one_opened(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar)
    nx.compress(PARTS)
    old = world.kernel.windows[0]
    world.kernel.suspend()
    world.later(600_000, lambda: setattr(world.kernel, "total", 40))
    moments = moments_of_opens(world)
    began_us = world.now_us
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert 31_250 < moments[0] - began_us < 33_000
    waits_ms = [(later - earlier) // 1_000 for earlier, later in pairwise(moments)]
    assert waits_ms == [31, 62, 125, 31, 62, 125, 31, 62, 125]
    assert fallback(nx) == {}
    assert old not in world.kernel.windows
    picture = nx.statistics()
    assert (picture.reopenings, picture.opens, picture.suspensions, picture.open_refusals) == (1, 2, 1, 0)
    assert not picture.suspended


@fidelity(
    "7 libnxz",
    "Refused for more than 31.25 ms, with used credits above total - 1, the window counts as suspended: it is closed, "
    "and another one opened in a loop with waits of 31, 62 and 125 ms, over and over.",
    source="LNX:lib/gzip_vas.c",
)
@pytest.mark.parametrize(("used", "suspended"), [(19, False), (20, True)])
def test_refusals_count_as_suspension_where_no_credit_is_left(
    world: World, lpar: Lpar, used: int, suspended: bool
) -> None:
    credits_are(world, 20, 10)
    nx = reopening(lpar)
    nx.open()
    credits_are(world, 20, used)
    refuse_pastes(world, 40)
    nx.compress(PARTS)
    assert (nx.statistics().reopenings > 0) is suspended


@fidelity(
    "7 libnxz",
    "Fewer total credits than when the window was opened also count as a suspension, after 31.25 ms of refusals.",
    source="LNX:lib/gzip_vas.c",
)
def test_a_total_that_shrank_since_the_window_was_opened_counts_as_suspension(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar)
    nx.compress(PARTS)
    world.kernel.total = 20
    refuse_pastes(world, 40)
    nx.compress(PARTS)
    assert nx.statistics().reopenings == 1
    refuse_pastes(world, 40)
    nx.compress(PARTS)
    assert nx.statistics().reopenings == 1, "the new window was opened with 20"


@fidelity(
    "7 libnxz",
    "A refused paste is repeated after 500 ticks of busy waiting, however long it takes, and the counters are read "
    "after each refusal from 31.25 ms on.",
    source="LNX:lib/gzip_vas.c",
    differs="A paste is a message: tries come 50 us to 1 ms apart, 20 ms where the kernel said that the window is "
    "closed, and the counters are read every 31.25 ms.",
)
def test_a_busy_window_with_credits_to_spare_is_not_taken_for_suspended(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar)
    refuse_pastes(world, 200)
    nx.compress(PARTS)
    assert (nx.statistics().reopenings, nx.statistics().refusals) == (0, 200)
    assert nx.statistics().compress.nx_bytes == len(PARTS)


@pytest.mark.parametrize("overdrawn", [False, True])
def test_before_31_ms_of_refusals_the_counters_are_not_read(world: World, lpar: Lpar, overdrawn: bool) -> None:
    nx = reopening(lpar)
    nx.compress(PARTS)
    if overdrawn:
        credits_are(world, 20, 21)
    refuse_pastes(world, 20)
    world.kernel.executed.clear()
    nx.compress(PARTS)
    assert nx.statistics().reopenings == 0
    assert not any(isinstance(body, device.ReadFile) and body.path in (TOTAL, USED) for body in world.kernel.executed)


@fidelity(
    "7 libnxz",
    "Refused pastes are repeated for up to 300 s; then the job ends with EAGAIN.",
    source="LNX:lib/gzip_vas.c",
)
def test_refusals_are_borne_for_300_seconds(world: World, lpar: Lpar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_window, "RETRY_BUSY_MOST_US", SUSPECT_US)  # fewer tries make the same time pass
    nx = reopening(lpar, "nx")
    nx.open()
    refuse_pastes(world)
    began_us = world.now_us
    with pytest.raises(NxError) as refused:
        nx.compress(TEXT[:PART])
    assert refused.value.reason is FallbackReason.PASTE_BUSY
    assert 300_000_000 < world.now_us - began_us < 300_100_000


@fidelity(
    "7 libnxz",
    "When no window could be opened within 300 s the handle is dead: the job ends with EAGAIN, and the next job goes "
    "straight to opening one.",
    source="LNX:lib/gzip_vas.c",
)
def test_a_dead_window_is_what_the_next_job_begins_with(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar, "nx")
    nx.compress(PARTS)
    world.kernel.suspend()
    began_us = world.now_us
    with pytest.raises(NxError) as dead:
        nx.compress(TEXT[:PART])
    assert dead.value.reason is FallbackReason.WINDOW_SUSPENDED
    assert 299_500_000 < world.now_us - began_us < 300_500_000
    assert nx.address is None
    moments = moments_of_opens(world)
    world.kernel.total = 40
    began_us = world.now_us
    nx.compress(TEXT[:PART])
    assert moments[0] - began_us < 1_000, "no paste comes before it"
    assert len(moments) == 1


def test_in_mode_auto_software_takes_over_at_the_deadline(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar, reopen_timeout=2.0)
    nx.compress(PARTS)
    world.kernel.suspend()
    began_us = world.now_us
    assert gzip.decompress(nx.compress(TEXT[:PART])) == TEXT[:PART]
    assert 1_850_000 < world.now_us - began_us < 2_100_000
    assert fallback(nx) == {FallbackReason.WINDOW_SUSPENDED: PART}


@fidelity(
    "7 libnxz",
    "A thread that finds, with the lock in its hands, that another one has opened a new window (the generation has "
    "changed) just pastes again.",
    source="LNX:lib/gzip_vas.c",
)
def test_threads_share_the_window_that_one_of_them_reopened(world: World, lpar: Lpar) -> None:
    users = [reopening(lpar) for _ in range(3)]
    for nx in users:
        nx.compress(PARTS)
    world.kernel.suspend()
    world.later(100_000, lambda: setattr(world.kernel, "total", 40))
    tasks = [world.start(nx._work.compressor.gzip(memoryview(PARTS), 0)) for nx in users]
    assert all(gzip.decompress(world.finish(task)) == PARTS for task in tasks)
    assert [nx.statistics().reopenings for nx in users] == [1, 0, 0]
    assert len({nx.address.token for nx in users if nx.address is not None}) == 1


@fidelity(
    "7 libnxz",
    "The time of refusals begins anew for the thread that opened a new window; for a thread that finds it opened by "
    "another one it goes on. Waiting for the lock is no part of it.",
    source="LNX:lib/gzip_vas.c",
)
def test_only_the_thread_that_reopened_the_window_counts_anew(world: World, lpar: Lpar) -> None:
    first, second = users = [reopening(lpar, "nx", patience=0.3) for _ in range(2)]
    for nx in users:
        nx.open()
    world.kernel.suspend()
    world.later(200_000, lambda: setattr(world.kernel, "total", 40))
    began_us = world.now_us
    tasks = [world.start(nx._work.compressor.gzip(memoryview(TEXT[:PART]), 0)) for nx in users]
    while not first.statistics().reopenings:
        world.turn()
    refuse_pastes(world)
    reopened_us = world.now_us
    given_up: list[int] = []
    for task in (tasks[1], tasks[0]):
        with pytest.raises(NxError) as busy:
            world.finish(task)
        assert busy.value.reason is FallbackReason.PASTE_BUSY
        given_up.append(world.now_us - reopened_us)
    assert reopened_us - began_us > 200_000
    assert second.statistics().reopenings == 0
    assert 255_000 < given_up[0] < 275_000, "the 31 ms before count, the time that the other one took does not"
    assert 300_000 < given_up[1] < 305_000


def test_the_wait_for_another_threads_job_is_no_refusal(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar)
    nx.open()
    credits_are(world, 20, 21)
    for unit in world.units.values():
        unit.later = lambda wait_us, action: world.later(wait_us + 100_000, action)
    tasks = [world.start(nx._work.compressor.gzip(memoryview(TEXT[:PART]), 0)) for _ in range(2)]
    world.pass_time(50_000)
    refuse_pastes(world, 1)
    assert [gzip.decompress(world.finish(task)) for task in tasks] == [TEXT[:PART]] * 2
    assert (nx.statistics().refusals, nx.statistics().reopenings) == (1, 0)


def test_a_restarted_partition_gets_a_new_session_and_a_new_window(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar)
    nx.compress(PARTS)
    world.kernel.restart()
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert fallback(nx) == {}
    assert nx.statistics().reopenings == 1
    assert lpar.is_alive


@fidelity(
    "7 libnxz",
    "A job whose paste was accepted is waited for up to 60 s; then it ends with EAGAIN.",
    source="LNX:lib/gzip_vas.c",
)
def test_a_status_block_is_waited_for_60_seconds(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar, "nx")
    nx.open()
    for unit in world.units.values():
        unit.later = lambda _wait_us, _action: None
    began_us = world.now_us
    with pytest.raises(NxError) as silent:
        nx.compress(TEXT[:PART])
    assert silent.value.reason is FallbackReason.TIMEOUT
    assert 60_000_000 <= world.now_us - began_us < 60_100_000


def test_a_silent_unit_is_left_alone_for_a_while_in_mode_auto(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar, timeout=2.0)
    world.nx0.mute = world.nx1.mute = True
    for rest_us, timeouts in ((900_000, 1), (200_000, 2), (1_000_000, 2), (1_100_000, 3)):
        assert gzip.decompress(nx.compress(TEXT)) == TEXT
        world.pass_time(rest_us)
        nx.compress(PARTS)
        assert nx.statistics().timeouts == timeouts
    assert set(fallback(nx)) == {FallbackReason.TIMEOUT}
    world.nx0.mute = world.nx1.mute = False
    world.pass_time(30_000_000)
    nx.compress(PARTS)
    assert nx.statistics().compress.nx_bytes == len(PARTS)
    world.nx0.mute = world.nx1.mute = True
    nx.compress(PARTS)
    world.nx0.mute = world.nx1.mute = False
    world.pass_time(1_000_000)
    nx.compress(PARTS)
    assert nx.statistics().compress.nx_bytes == 2 * len(PARTS), "after it worked the rest is short again"


def test_a_cancelled_job_leaves_the_window_to_the_others(world: World, lpar: Lpar) -> None:
    nx = reopening(lpar)
    nx.compress(PARTS)
    world.kernel.suspend()
    task = world.start(nx._work.compressor.gzip(memoryview(PARTS), 0))
    world.pass_time(100_000)
    assert not task.done
    world.core.cancel(task, world.now_us)
    world.kernel.total = 40
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert len(world.kernel.windows) == 1
