"""Hold and release: a test aid that keeps changes from reaching a partition."""

from __future__ import annotations

from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.console_messages import ConfigurationApplied
from protocol.hcall_messages import Configuration
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.test_configuration import asked, remove_core


def test_a_held_partition_does_not_learn_of_its_change(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.hold("lp1", hold=True)
    number = remove_core(cluster, wait_ms=60_000)
    cluster.advance(5 * SECOND_US)
    assert (lp1.applied, number in cluster.console.answers) == ([], False)
    assert asked(lp1, 0) == Configuration(generation=0, hundredths=0)
    assert cluster.pool("lp1")[0] == 20
    cluster.hold("lp1", hold=False)
    cluster.pump()
    assert [change.generation for change in lp1.applied] == [1]
    assert isinstance(cluster.console.answers[number], ConfigurationApplied)


@fidelity(
    "1 over-use",
    "What the hypervisor refuses is a new allocation while the partition is at or above its target.",
    source="ML:b36ad1f66c",
)
def test_while_it_is_held_a_partition_meets_the_lowered_target_at_the_hypervisor(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    for _ in range(20):
        lp1.open_window()
    cluster.hold("lp1", hold=True)
    remove_core(cluster)
    assert lp1.allocate().code is HcallCode.H_RESOURCE


def test_a_hold_concerns_one_partition(cluster: Cluster) -> None:
    cluster.hold("lp1", hold=True)
    assert isinstance(cluster.dlpar("lp2", -1), ConfigurationApplied)


def test_a_change_that_expired_while_held_is_told_at_the_release(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.hold("lp1", hold=True)
    remove_core(cluster, wait_ms=1_000)
    cluster.advance(3 * SECOND_US)
    cluster.hold("lp1", hold=False)
    cluster.pump()
    assert [change.generation for change in lp1.applied] == [1]


def test_a_hold_that_was_answered_outlives_a_restart(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.hold("lp1", hold=True)
    cluster.restart()
    remove_core(cluster, wait_ms=60_000)
    cluster.advance(5 * SECOND_US)
    assert lp1.applied == []


def test_a_held_partition_that_restarts_has_not_acknowledged_the_held_change(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.hold("lp1", hold=True)
    first, second = remove_core(cluster, wait_ms=60_000), remove_core(cluster, wait_ms=60_000, cores=+1)
    lp1.die()
    cluster.core.unreachable("hcall", b"gone", cluster.now_us)
    lp1.start()
    cluster.wait(lambda: lp1.dialer.established)
    cluster.pump()
    assert first in cluster.console.answers
    assert second not in cluster.console.answers
    status = cluster.lpar_status("lp1")
    assert (status.generation, status.acknowledged) == (2, 1)
    cluster.hold("lp1", hold=False)
    cluster.pump()
    assert second in cluster.console.answers
