"""A partition dies: its windows are fenced at the units, and each credit is free on its unit's word."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from protocol.codes import HcallCode, WindowStatus
from protocol.fabric_messages import CloseContext
from protocol.hcall_messages import HDeallocateVasWindow
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.fake_lpar import FakeLpar, modify

LEASE_US = 10_100_000


def reboot(cluster: Cluster, lpar: str = "lp1") -> FakeLpar:
    """Another incarnation takes the place of one whose connection has gone."""
    partition = cluster.lpars[lpar]
    partition.die()
    partition.start()
    cluster.wait(lambda: partition.dialer.established)
    cluster.pump()
    return partition


def test_a_dead_partition_costs_its_credits_for_one_lease(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    windows = [lp1.open_window() for _ in range(6)]
    heard_us = cluster.now_us
    lp1.die()
    cluster.advance(heard_us + LEASE_US - cluster.now_us - 1)
    assert cluster.pool("lp1") == (40, 6)
    cluster.advance(1)
    assert cluster.pool("lp1") == (40, 0)
    assert not any(unit.takes_paste(window) for unit in cluster.units.values() for window in windows)
    assert cluster.lpar_status("lp1").state == "not_activated"


def test_a_silent_partition_is_suspected_and_loses_nothing(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window = lp1.open_window()
    lp1.cut = True
    cluster.advance(9 * SECOND_US)
    assert cluster.lpar_status("lp1").state == "suspected"
    assert cluster.units["nx0"].takes_paste(window)
    lp1.cut = False
    cluster.advance(3 * SECOND_US)
    assert cluster.lpar_status("lp1").state == "running"
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS


def test_a_partition_cut_off_for_longer_than_its_lease_is_told_that_it_is_dead(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window = lp1.open_window()
    lp1.cut = True
    cluster.advance(12 * SECOND_US)
    lp1.cut = False
    cluster.wait(lambda: lp1.ended is not None)
    assert not cluster.units["nx0"].takes_paste(window)


def test_a_credit_is_not_free_before_the_unit_has_confirmed_the_close(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    lp1.open_window()
    nx0.mute = True
    lp1.die()
    cluster.advance(60 * SECOND_US)
    assert cluster.pool("lp1") == (40, 1)
    assert cluster.windows()[0].state == "fenced"
    nx0.mute = False
    nx0.speak()
    cluster.pump()
    assert cluster.pool("lp1") == (40, 0)


def test_a_credit_is_not_free_before_the_last_request_has_completed(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.contexts[window.window_id].in_flight = 1
    lp1.die()
    cluster.advance(12 * SECOND_US)
    assert cluster.pool("lp1") == (40, 1)
    assert not nx0.takes_paste(window)
    nx0.complete(window.window_id)
    cluster.pump()
    assert cluster.pool("lp1") == (40, 0)


def test_behind_an_unreachable_unit_a_credit_is_free_when_the_unit_has_fenced_itself(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    heard_us = cluster.now_us
    nx0.cut = True
    lp1.die()
    while cluster.pool("lp1") == (40, 1):
        cluster.advance(100_000)
    assert not nx0.takes_paste(window)
    assert 30 * SECOND_US <= cluster.now_us - heard_us <= 31 * SECOND_US


def test_the_windows_of_both_types_and_units_are_fenced(cluster: Cluster) -> None:
    cluster.qos("lp1", 2)
    lp1 = cluster.lpars["lp1"]
    for credit_type in (0, 0, 1, 1):
        lp1.open_window(credit_type)
    lp1.die()
    cluster.advance(LEASE_US)
    assert cluster.windows() == []
    assert all(not unit.contexts for unit in cluster.units.values())


def test_a_window_that_nobody_bound_is_free_with_the_lease(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.allocate()
    for unit in cluster.units.values():
        unit.mute = True
    lp1.die()
    cluster.advance(LEASE_US)
    assert cluster.pool("lp1") == (40, 0)


@pytest.mark.parametrize("phase", ["programming", "closing", "quiesced"])
def test_a_window_is_fenced_wherever_it_stood(cluster: Cluster, phase: str) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.allocate().window_id
    if phase == "programming":
        nx0.mute = True
        lp1.status_of(modify(window_id))
    else:
        lp1.modify(window_id)
        nx0.contexts[window_id].in_flight = 1
        lp1.status_of(HDeallocateVasWindow(window_id=window_id))
    if phase == "quiesced":
        nx0.complete(window_id)
        cluster.pump()
    assert cluster.windows()[0].state == phase
    lp1.die()
    cluster.advance(LEASE_US)
    nx0.mute = False
    nx0.speak()
    if window_id in nx0.contexts and nx0.contexts[window_id].in_flight:
        nx0.complete(window_id)
    cluster.advance(5 * SECOND_US)
    assert (cluster.windows(), nx0.contexts) == ([], {})


def test_one_close_is_enough(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.open_window().window_id
    nx0.contexts[window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=window_id))
    lp1.status_of(HDeallocateVasWindow(window_id=window_id))
    lp1.die()
    cluster.advance(LEASE_US)
    assert len([body for body in nx0.asked if isinstance(body, CloseContext)]) == 1


# A second incarnation.


def test_a_partition_that_says_bye_gives_everything_back_at_once(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.open_window()
    lp1.dialer.say_bye()
    cluster.pump()
    assert cluster.pool("lp1") == (40, 0)


def test_a_second_incarnation_begins_with_the_credits_that_are_confirmed_free(cluster: Cluster) -> None:
    lp3, nx1 = cluster.lpars["lp3"], cluster.units["nx1"]
    for _ in range(16):
        lp3.open_window()
    nx1.mute = True
    reboot(cluster, "lp3")
    assert cluster.pool("lp3") == (16, 8)
    assert [lp3.allocate().code for _ in range(9)][7:] == [HcallCode.H_SUCCESS, HcallCode.H_RESOURCE]
    nx1.mute = False
    nx1.speak()
    cluster.pump()
    assert cluster.pool("lp3") == (16, 8)


def test_a_second_incarnation_knows_nothing_of_the_first_ones_windows(cluster: Cluster) -> None:
    nx0 = cluster.units["nx0"]
    nx0.mute = True
    window_id = cluster.lpars["lp1"].allocate().window_id
    lp1 = reboot(cluster)
    fresh = lp1.open_window(chip=1)
    assert fresh.window_id > window_id
    assert lp1.deallocate(window_id) is HcallCode.H_PARAMETER


def test_a_second_incarnation_waits_while_the_first_is_alive(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window = lp1.open_window()
    twin = FakeLpar(cluster, "lp1")
    cluster.lpars["twin"] = twin
    twin.start()
    cluster.advance(12 * SECOND_US)
    assert not twin.dialer.established
    assert cluster.units["nx0"].takes_paste(window)
    lp1.die()
    cluster.wait(lambda: twin.dialer.established)
    cluster.pump()
    assert cluster.pool("lp1") == (40, 0)


def test_an_unknown_partition_is_turned_away(cluster: Cluster) -> None:
    stranger = FakeLpar(cluster, "lp9")
    cluster.lpars["lp9"] = stranger
    stranger.start()
    cluster.wait(lambda: stranger.ended is not None)
    assert stranger.ended is not None
    assert "lp1, lp2, lp3" in stranger.ended.expected


def test_the_death_of_one_partition_is_nothing_to_another(cluster: Cluster) -> None:
    window = cluster.lpars["lp2"].open_window()
    cluster.lpars["lp1"].open_window()
    cluster.lpars["lp1"].die()
    cluster.advance(LEASE_US)
    assert cluster.pool("lp2") == (40, 1)
    assert cluster.windows()[0].status is WindowStatus.ACTIVE
    assert cluster.units["nx1"].takes_paste(window) or cluster.units["nx0"].takes_paste(window)
