"""What the log says when an absent unit counts as quiet: nothing where nobody could have taken a paste any more."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.test_unit_replaced import cut_off, replaced

FENCE_US = 30_100_000


def quiet(cluster: Cluster) -> list[tuple[str, object, object]]:
    """Of each such line: its level, its unit, and how many windows are there."""
    lines = [line for line in cluster.log if line.event == "unit_counts_as_quiet"]
    return [(line.level, line.facts["unit"], line.facts["windows"]) for line in lines]


def test_of_a_unit_that_was_never_started_nothing_is_said() -> None:
    cluster = Cluster()
    for end in cluster.ends:
        if end is not cluster.units["nx1"]:
            end.start()
    cluster.advance(FENCE_US + SECOND_US)
    assert cluster.unit_status("nx1").state == "fenced"
    assert quiet(cluster) == []


@pytest.mark.parametrize("windows", [0, 2])
def test_of_a_unit_that_took_its_leave_nothing_is_said(cluster: Cluster, windows: int) -> None:
    nx0 = cluster.units["nx0"]
    for _ in range(windows):
        cluster.lpars["lp1"].open_window(chip=0)
    nx0.dialer.say_bye()
    cluster.pump()
    nx0.die()
    cluster.advance(FENCE_US + SECOND_US)
    assert cluster.unit_status("nx0").state == "fenced"
    assert quiet(cluster) == []


@pytest.mark.parametrize("windows", [0, 2])
def test_a_lost_unit_whose_fence_has_run_out_is_a_warning(cluster: Cluster, windows: int) -> None:
    for _ in range(windows):
        cluster.lpars["lp1"].open_window(chip=0)
    cluster.units["nx0"].die()
    cluster.advance(2 * FENCE_US)
    assert quiet(cluster) == [("warning", "nx0", windows)]


def test_so_is_one_that_is_away_since_before_the_hypervisor_started(cluster: Cluster) -> None:
    cluster.lpars["lp1"].open_window(chip=0)
    cluster.units["nx0"].die()
    cluster.restart()
    cluster.advance(FENCE_US + SECOND_US)
    assert quiet(cluster) == [("warning", "nx0", 1)]


def test_the_leave_of_a_unit_is_not_that_of_an_earlier_process_of_its_name(cluster: Cluster) -> None:
    nx0 = cluster.units["nx0"]
    cluster.lpars["lp1"].open_window(chip=0)
    quiet_us = cut_off(cluster, nx0)
    other = replaced(cluster, b"another machine")
    other.dialer.say_bye()
    cluster.pump()
    other.die()
    cluster.advance(quiet_us - cluster.now_us - 1)
    assert quiet(cluster) == []
    cluster.advance(1)
    assert quiet(cluster) == [("warning", "nx0", 1)]
