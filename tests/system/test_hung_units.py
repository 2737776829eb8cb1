"""An NX unit stops answering while windows are opened and closed there: others' opens go on. Source: design.md."""

from __future__ import annotations

import errno

import pytest

from lpar.client import KernelFailure, Lpar, Window
from lpar.client.tasks import Task
from lpar.client.window import close_window
from protocol.clock import SECOND_US
from protocol.codes import CompletionCode, KernelReason
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.system.actors import ClientHost
from tests.system.deaths import REQUEST, ROUND_TRIP_US, TIMES, in_use, up
from tests.system.story import settle_and_compare
from tests.system.test_unit_deaths import find, lose

SUSPECTED_US = (TIMES.suspect_ms + TIMES.beat_ms) * 1000
FENCE_US = (TIMES.fence_ms + TIMES.drift_margin_ms) * 1000
CREDITS = 40


def begin_to_close(lpar: Lpar, window: Window) -> None:
    """Call close in a thread that nobody waits for."""
    driver = lpar.driver
    assert isinstance(driver, ClientHost)
    driver.core.submit(Task(close_window(window._state, 60 * SECOND_US)), driver.system.now_us)
    driver.system.settle(driver.host)


@pytest.mark.parametrize("how", ["killed", "stop", "cut"])
@pytest.mark.parametrize("away_s", [10, 45])
def test_the_first_open_after_a_unit_stopped_gets_a_window_elsewhere(how: str, away_s: int) -> None:
    system = up(3)
    lpar = system.client("lp1")
    held = lpar.open_window()
    assert held.run(REQUEST).code is CompletionCode.OK
    lose(system, how, "nx0")
    began_us = system.now_us
    window = lpar.open_window()
    assert system.now_us - began_us <= SUSPECTED_US
    assert window.run(REQUEST).code is CompletionCode.OK
    assert in_use(system) == 3, "nobody may have the credit of the one that was given up: the unit may have made it"
    began_us = system.now_us
    assert lpar.open_window().run(REQUEST).code is CompletionCode.OK
    assert system.now_us - began_us <= 10 * ROUND_TRIP_US + SECOND_US // 100, "the next one is placed elsewhere at once"
    system.pass_time(away_s * SECOND_US)
    find(system, how, "nx0")
    system.run_until(lambda: in_use(system) == 3, limit_us=SECOND_US)
    assert held.run(REQUEST).code is CompletionCode.OK
    settle_and_compare(system)


@pytest.mark.parametrize(("away_s", "opened"), [(8, True), (20, False)])
def test_an_open_that_has_no_other_credit_waits_for_its_unit_until_its_deadline(away_s: int, opened: bool) -> None:
    system = up(3)
    lpar = system.client("lp1")
    windows = [lpar.open_window() for _ in range(CREDITS - 1)]
    system.stop("nx0")
    began_us = system.now_us
    system.later(away_s * SECOND_US, lambda: system.back("nx0"))
    if opened:
        windows.append(lpar.open_window())
        assert system.now_us - began_us <= (away_s + 1) * SECOND_US
    else:
        with pytest.raises(KernelFailure) as failed:
            lpar.open_window()
        assert (failed.value.errno, failed.value.reason) == (errno.EIO, KernelReason.HCALL_BUSY)
        assert system.now_us - began_us <= TIMES.kernel_deadline_ms * 1000 + SECOND_US
        assert in_use(system) == CREDITS
    system.run_until(lambda: in_use(system) == len(windows), limit_us=60 * SECOND_US)
    system.pass_time(20 * SECOND_US)
    settle_and_compare(system)


@failure(
    "nxunit",
    "hung or cut off while a window of its is closed",
    seen="That close waits. Others open and close windows at other units.",
    lasts="Until the unit is back, or its fence of 30.1 s is over; others wait 0.1 s for each such close.",
    kept="The credit is nobody's until the unit certainly takes no paste for it.",
)
@pytest.mark.parametrize("how", ["stop", "cut"])
def test_a_close_at_a_hung_unit_keeps_nobody_from_opening_windows(how: str, figure: Figure) -> None:
    system = up(4)
    one, other = system.client("lp1", timeout=60), system.client("lp1")
    window = one.open_window()
    assert window.run(REQUEST).code is CompletionCode.OK
    lose(system, how, "nx0")
    lost_us = system.now_us
    system.pass_time(SUSPECTED_US)
    waits: list[int] = []

    def opens() -> None:
        began_us = system.now_us
        assert other.open_window().run(REQUEST).code is CompletionCode.OK
        waits.append(system.now_us - began_us)

    begin_to_close(one, window)
    for _ in range(5):
        opens()
    figure("longest open beside a close at a hung unit", max(waits) / 1000, "ms")
    assert max(waits) <= 150_000
    assert in_use(system) == 6, "its credit is not free"
    system.run_until(lambda: in_use(system) == 5)
    figure("unit lost to the credit of a window closed there", (system.now_us - lost_us) / SECOND_US, "s")
    assert system.now_us - lost_us <= FENCE_US + SECOND_US
    find(system, how, "nx0")
    settle_and_compare(system)
