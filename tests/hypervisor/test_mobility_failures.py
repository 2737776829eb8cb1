"""Migrations that fail, and what a stream survives: deaths of its partition and of the hypervisor."""

from __future__ import annotations

import pytest

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.codes import HcallCode, VasiState
from protocol.console_messages import ChangeProcessors, ConfigurationApplied, MigratePartition
from protocol.hcall_messages import (
    ConfigurationKind,
    QueryConfiguration,
)
from tests.hypervisor.cluster import Cluster, Kill, settings, told
from tests.hypervisor.streams import (
    ABORTED,
    COMPLETED,
    SUSPENDING,
    begin,
    cancel,
    failed,
    home_chip,
    join,
    report,
    state,
)  # fmt: skip

# How it can fail.


def test_a_cancelled_migration_is_aborted_and_told_with_the_partitions_reason(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    number = begin(cluster)
    assert cancel(lp1) is HcallCode.H_SUCCESS
    assert cancel(lp1) is HcallCode.H_SUCCESS
    assert state(lp1) is ABORTED
    assert join(lp1) is HcallCode.H_STATE
    report(lp1, accepted=False)
    failure = failed(cluster, number)
    assert (failure.code, "not now" in failure.text) == ("not_migrated", True)
    assert home_chip(cluster) == 0


def test_only_the_cancel_signal_is_known_and_what_is_moved_cannot_be_cancelled(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    begin(cluster)
    assert cancel(lp1, signal=2) is HcallCode.H_P2
    assert state(lp1) is SUSPENDING
    join(lp1)
    assert cancel(lp1) is HcallCode.H_STATE
    assert state(lp1) is COMPLETED


def test_a_partition_that_reports_a_move_that_was_none_has_not_been_moved(cluster: Cluster) -> None:
    number = begin(cluster)
    report(cluster.lpars["lp1"], accepted=True)
    assert failed(cluster, number).code == "not_migrated"


def test_a_partition_that_is_not_running_is_not_migrated(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.die()
    cluster.advance(11 * SECOND_US)
    number = begin(cluster)
    assert failed(cluster, number).code == "not_running"
    assert cluster.lpar_status("lp1").generation == 0


def test_a_hold_longer_than_the_wait_is_refused(cluster: Cluster) -> None:
    failure = failed(cluster, begin(cluster, hold_ms=5_001, wait_ms=5_000))
    assert failure.code == "bad_amount"
    assert "5001" in failure.text
    assert cluster.lpar_status("lp1").generation == 0


def test_an_unknown_partition_is_not_migrated(cluster: Cluster) -> None:
    number = cluster.console.send(MigratePartition(lpar="lp9", hold_ms=0, wait_ms=5_000))
    cluster.pump()
    assert failed(cluster, number).code == "unknown_lpar"


def test_when_the_wait_is_over_the_kernel_finds_its_stream_aborted_until_it_reports(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    number = begin(cluster, wait_ms=1_000)
    assert state(lp1) is SUSPENDING
    cluster.advance(SECOND_US)
    failure = failed(cluster, number)
    assert (failure.code, "given up" in failure.advice) == ("timeout", True)
    assert state(lp1) is ABORTED
    assert state(lp1, 0) is state(lp1, 2) is VasiState.INVALID
    assert join(lp1) is HcallCode.H_STATE
    assert cancel(lp1) is HcallCode.H_SUCCESS
    report(lp1, accepted=False)
    assert state(lp1) is VasiState.INVALID
    assert cluster.lpar_status("lp1").acknowledged == 1


def test_a_partition_that_another_process_moved_was_migrated(cluster: Cluster) -> None:
    """Its own write then finds the stream COMPLETED and fails; what counts is where the partition is."""
    lp1 = cluster.lpars["lp1"]
    number = begin(cluster)
    join(lp1)
    report(lp1, accepted=False)
    applied = told(cluster.console.answers[number], ConfigurationApplied)
    assert (applied.closed, applied.reopened) == ((7, 6), (9, 8))
    assert home_chip(cluster) == 1


def test_a_partition_that_was_moved_when_the_wait_was_over_stays_moved(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    number = begin(cluster, wait_ms=1_000)
    join(lp1)
    cluster.advance(SECOND_US)
    failure = failed(cluster, number)
    assert (failure.code, "was moved" in failure.advice) == ("timeout", True)
    assert state(lp1) is VasiState.INVALID, "a stream that is gone is a complete one"
    report(lp1)
    assert home_chip(cluster) == 1
    assert cluster.lpar_status("lp1").acknowledged == 1


def test_a_migration_of_which_the_kernel_never_heard_is_not_told_later(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.hold("lp1", hold=True)
    number = begin(cluster, wait_ms=1_000)
    cluster.advance(SECOND_US)
    assert failed(cluster, number).code == "timeout"
    lp1.follows = True
    cluster.hold("lp1", hold=False)
    cluster.advance(5 * SECOND_US)
    assert lp1.applied == []
    assert lp1.generation == 1


def test_an_expired_migration_leaves_an_expired_processor_change_to_be_told(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.hold("lp1", hold=True)
    cluster.console.send(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=1_000))
    begin(cluster, wait_ms=2_000)
    cluster.advance(3 * SECOND_US)
    cluster.hold("lp1", hold=False)
    lp1.follows = True
    cluster.advance(5 * SECOND_US)
    assert [change.kind for change in lp1.applied] == [ConfigurationKind.CPU]


def test_the_death_of_the_partition_ends_its_migration(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    number = begin(cluster, wait_ms=60_000)
    state(lp1)
    lp1.die()
    cluster.advance(11 * SECOND_US)
    assert failed(cluster, number).code == "not_migrated"
    lp1.start()
    cluster.advance(SECOND_US)
    assert state(lp1) is VasiState.INVALID
    status = cluster.lpar_status("lp1")
    assert (status.generation, status.acknowledged) == (1, 1)


def test_a_partition_that_dies_after_its_move_was_moved(cluster: Cluster) -> None:
    number = begin(cluster, wait_ms=60_000)
    join(cluster.lpars["lp1"])
    cluster.lpars["lp1"].die()
    cluster.advance(11 * SECOND_US)
    assert not told(cluster.console.answers[number], ConfigurationApplied).running
    assert home_chip(cluster) == 1


def test_the_death_of_the_partition_ends_a_stream_that_was_given_up(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    begin(cluster, wait_ms=1_000)
    cluster.advance(SECOND_US)
    assert state(lp1) is ABORTED
    lp1.die()
    cluster.advance(11 * SECOND_US)
    lp1.start()
    cluster.advance(SECOND_US)
    assert state(lp1) is VasiState.INVALID


# kill -9.


def test_a_stream_outlives_the_hypervisor_and_its_hold_begins_anew(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    number = begin(cluster, hold_ms=1_000)
    state(lp1)
    cluster.advance(900 * MILLISECOND_US)
    cluster.restart()
    cluster.wait(lambda: cluster.lpar_status("lp1").state == "running")
    assert state(lp1) is VasiState.ENABLED
    cluster.advance(999 * MILLISECOND_US)
    assert state(lp1) is VasiState.ENABLED
    cluster.advance(MILLISECOND_US)
    assert join(lp1) is HcallCode.H_SUCCESS
    report(lp1)
    assert isinstance(cluster.console.answers[number], ConfigurationApplied)


def test_a_kernel_that_was_told_that_its_hold_is_over_may_be_moved_by_a_restarted_hypervisor(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    number = begin(cluster, hold_ms=1_000)
    state(lp1)
    cluster.advance(SECOND_US)
    assert state(lp1) is VasiState.SUSPENDING
    cluster.restart()
    cluster.wait(lambda: cluster.lpar_status("lp1").state == "running")
    assert join(lp1) is HcallCode.H_SUCCESS
    report(lp1)
    assert isinstance(cluster.console.answers[number], ConfigurationApplied)


@pytest.mark.parametrize(("ending", "expected"), [("joined", COMPLETED), ("cancelled", ABORTED), ("expired", ABORTED)])
def test_how_a_stream_stood_is_known_after_a_restart(cluster: Cluster, ending: str, expected: VasiState) -> None:
    lp1 = cluster.lpars["lp1"]
    begin(cluster, wait_ms=1_000 if ending == "expired" else 60_000)
    if ending == "joined":
        join(lp1)
    elif ending == "cancelled":
        cancel(lp1)
    else:
        cluster.advance(SECOND_US)
    home = home_chip(cluster)
    cluster.restart()
    assert state(lp1) is expected
    assert home_chip(cluster) == home == int(ending == "joined")
    report(lp1, accepted=ending == "joined")
    assert state(lp1) is VasiState.INVALID
    cluster.restart()
    assert state(lp1) is VasiState.INVALID


@pytest.mark.parametrize("committed", [False, True])
def test_a_hypervisor_killed_at_the_move_moves_the_partition_once(cluster: Cluster, committed: bool) -> None:
    lp1 = cluster.lpars["lp1"]
    number = begin(cluster)
    assert state(lp1) is SUSPENDING
    cluster.kill = Kill(1, committed)
    assert join(lp1) is HcallCode.H_SUCCESS
    assert cluster.kills == 1
    assert home_chip(cluster) == 1
    assert state(lp1) is COMPLETED
    report(lp1)
    assert isinstance(cluster.console.answers[number], ConfigurationApplied)


def test_a_migration_of_a_partition_that_the_system_no_longer_has_is_forgotten(cluster: Cluster) -> None:
    begin(cluster, wait_ms=1_000)
    cluster.advance(SECOND_US)
    cluster.system = settings(lpar=[{"name": "lp2", "mode": "dedicated", "cores": 2, "home_chip": 1}])
    cluster.restart()
    assert not cluster.core.configurations.streams.given_up


def test_a_kernel_that_asks_again_is_told_of_its_stream_once_more(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    begin(cluster)
    join(lp1)
    change = lp1.ask(QueryConfiguration(generation=0))
    assert getattr(change, "change", None) is not None
