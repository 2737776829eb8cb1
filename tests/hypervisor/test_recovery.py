"""kill -9 of the hypervisor: what it had answered for it still has, and nothing happens twice. Source: design.md."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from protocol.codes import CreditType, HcallCode
from protocol.console_messages import ChangeProcessors, ConfigurationApplied, SetQosCredits
from protocol.hcall_messages import HAllocateVasWindow, HcallStatus, HDeallocateVasWindow, WindowAllocated
from tests.hypervisor.cluster import Cluster, Kill, lasting, told

OPEN = HAllocateVasWindow(window_type=1, credits=1, domain=((1 << 64) - 1, 0, 0, 0, 0, 0))


def furnish(cluster: Cluster) -> None:
    """Windows, QoS credits and a moved core."""
    cluster.qos("lp1", 3)
    cluster.dlpar("lp1", -1)
    cluster.dlpar("lp2", +1)
    for lpar, credit_type in (("lp1", 1), ("lp1", 0), ("lp2", 1), ("lp3", 1)):
        cluster.lpars[lpar].open_window(credit_type)


def test_the_restarted_hypervisor_is_the_one_before(cluster: Cluster) -> None:
    furnish(cluster)
    status, windows = cluster.status(), cluster.windows()
    cluster.restart()
    cluster.advance(5 * SECOND_US)
    assert lasting(cluster.status()) == lasting(status)
    assert cluster.windows() == windows


def test_a_restart_costs_nobody_a_window(cluster: Cluster) -> None:
    windows = [(lpar, lpar.open_window()) for lpar in cluster.lpars.values() for _ in range(3)]
    cluster.restart()
    cluster.advance(20 * SECOND_US)
    units = cluster.units.values()
    assert all(any(unit.takes_paste(window) for unit in units) for _, window in windows)
    assert all(lpar.deallocate(window.window_id) is HcallCode.H_SUCCESS for lpar, window in windows)
    assert all(unit.contexts == {} for unit in units)


def test_partitions_keep_their_sessions_over_a_restart(cluster: Cluster) -> None:
    cluster.restart()
    cluster.advance(5 * SECOND_US)
    assert [lpar.epoch for lpar in cluster.lpars.values()] == [1, 1, 1]
    assert [lpar.state for lpar in cluster.status().lpars] == ["running"] * 3


def test_until_a_partition_is_back_it_is_recovering(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.cut = True
    cluster.restart()
    assert cluster.lpar_status("lp1").state == "recovering"


def test_every_partition_gets_a_whole_lease_after_a_restart(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.open_window()
    lp1.die()
    cluster.advance(9 * SECOND_US)
    cluster.restart()
    cluster.advance(10_000_000)
    assert cluster.pool("lp1") == (40, 1)
    cluster.advance(101_000)
    assert cluster.pool("lp1") == (40, 0)


def test_a_fencing_that_was_interrupted_is_taken_up_again(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    lp1.open_window()
    nx0.mute = True
    lp1.die()
    cluster.advance(12 * SECOND_US)
    assert cluster.windows()[0].state == "fenced"
    cluster.restart()
    nx0.mute = False
    cluster.advance(5 * SECOND_US)
    assert (cluster.windows(), nx0.contexts) == ([], {})


# Exactly once in effect.


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_an_open_that_kill_9_interrupts_takes_one_credit(cluster: Cluster, turns: int, committed: bool) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.kill = Kill(turns, committed)
    window = lp1.open_window()
    cluster.kill = Kill(1, committed)
    assert cluster.pool("lp1") == (40, 1)
    assert cluster.units["nx0"].takes_paste(window)
    assert cluster.kills


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_deallocate_that_kill_9_interrupts_gives_one_credit_back(
    cluster: Cluster, turns: int, committed: bool
) -> None:
    lp1 = cluster.lpars["lp1"]
    windows = [lp1.open_window() for _ in range(3)]
    cluster.kill = Kill(turns, committed)
    assert lp1.deallocate(windows[1].window_id) is HcallCode.H_SUCCESS
    cluster.kill = None
    assert cluster.pool("lp1") == (40, 2)
    assert {row.window_id for row in cluster.windows()} == {windows[0].window_id, windows[2].window_id}


def test_an_answer_that_the_partition_did_not_get_comes_from_the_ledger(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.kill = Kill(1, committed=True)
    number = lp1.send(OPEN)
    cluster.wait(lambda: number in lp1.answers)
    assert cluster.kills == 1
    window = told(lp1.answers[number], WindowAllocated)
    assert [row.window_id for row in cluster.windows()] == [window.window_id]
    assert lp1.modify(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.units["nx0"].takes_paste(window)


def test_an_hcall_that_was_not_committed_is_carried_out_by_the_next_hypervisor(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.kill = Kill(1, committed=False)
    window = lp1.allocate()
    assert (cluster.kills, window.window_id) == (1, 1)
    assert cluster.pool("lp1") == (40, 1)


def test_a_deallocate_of_a_draining_window_survives_a_restart(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.contexts[window.window_id].in_flight = 1
    number = lp1.send(HDeallocateVasWindow(window_id=window.window_id))
    cluster.pump()
    assert told(lp1.answers[number], HcallStatus).code is HcallCode.H_LONG_BUSY_ORDER_1_MSEC
    cluster.restart()
    cluster.advance(3 * SECOND_US)
    nx0.complete(window.window_id)
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert (cluster.windows(), nx0.contexts) == ([], {})


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_a_console_operation_that_is_repeated_is_applied_once(cluster: Cluster, turns: int, committed: bool) -> None:
    cluster.kill = Kill(turns, committed)
    assert isinstance(cluster.dlpar("lp1", +1, wait_ms=30_000), ConfigurationApplied)
    cluster.kill = None
    status = cluster.lpar_status("lp1")
    assert (status.cores, status.generation, status.acknowledged) == (3, 1, 1)


def test_an_operation_that_waits_for_its_partition_goes_on_after_a_restart(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.hold("lp1", hold=True)
    numbers = [
        cluster.console.send(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=60_000)),
        cluster.console.send(SetQosCredits(lpar="lp1", credits=2, wait_ms=60_000)),
    ]
    cluster.advance(SECOND_US)
    cluster.restart()
    cluster.advance(5 * SECOND_US)
    assert not any(number in cluster.console.answers for number in numbers)
    cluster.hold("lp1", hold=False)
    cluster.wait(lambda: all(number in cluster.console.answers for number in numbers))
    assert [change.generation for change in lp1.applied] == [1, 2]
    assert (cluster.pool("lp1")[0], cluster.pool("lp1", CreditType.QOS)[0]) == (18, 2)


def test_an_operation_whose_console_has_gone_is_finished_all_the_same(cluster: Cluster) -> None:
    cluster.hold("lp1", hold=True)
    cluster.console.send(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=60_000))
    cluster.pump()
    cluster.console.die()
    cluster.restart()
    cluster.advance(10 * SECOND_US)
    cluster.console = cluster.new_console("console-2")
    cluster.hold("lp1", hold=False)
    cluster.pump()
    assert cluster.lpar_status("lp1").acknowledged == 1
