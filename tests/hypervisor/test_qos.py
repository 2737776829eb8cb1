"""QoS credits: the partition is told first, the pool follows. Source: domain.md 6 "Order"."""

from __future__ import annotations

from protocol.codes import CreditType, HcallCode
from protocol.console_messages import ConfigurationApplied, ConsoleFailure, SetQosCredits
from protocol.hcall_messages import ConfigurationChange, Reconfigured
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, settings, told
from tests.hypervisor.fake_lpar import FakeLpar, refuse

QOS = CreditType.QOS


def promise(cluster: Cluster, credits: int, wait_ms: int = 5_000, lpar: str = "lp1") -> int:
    """Ask for QoS credits; the partition is told and says nothing yet."""
    cluster.lpars[lpar].follows = False
    number = cluster.console.send(SetQosCredits(lpar=lpar, credits=credits, wait_ms=wait_ms))
    cluster.pump()
    return number


def report(partition: FakeLpar, generation: int, *, accepted: bool = True) -> None:
    partition.ask(Reconfigured(generation=generation, accepted=accepted))
    partition.cluster.pump()


@fidelity(
    "5 triggers",
    "QoS: the console tells the operating system first and changes the hypervisor only if that succeeded.",
    source="ML:985e48088f",
)
@fidelity(
    "5 triggers",
    "On a QoS increase the kernel may reopen windows before the hypervisor grants them, and those hcalls can fail.",
    source="ML:985e48088f",
    differs=(
        "Credits that are promised to a partition may be allocated at once; only a write without the console "
        "behind it fails."
    ),
)
def test_the_partition_is_told_before_the_pool_changes_and_its_credits_are_held_ready(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    number = promise(cluster, 5)
    notice = told(lp1.notices[-1], ConfigurationChange)
    assert notice.amount == 5
    assert cluster.pool("lp1", QOS) == (0, 0)
    assert [lp1.allocate(QOS).code for _ in range(6)] == [HcallCode.H_SUCCESS] * 5 + [HcallCode.H_RESOURCE]
    assert cluster.pool("lp1", QOS) == (0, 5)
    report(lp1, 1)
    assert cluster.pool("lp1", QOS) == (5, 5)
    applied = told(cluster.console.answers[number], ConfigurationApplied)
    assert (applied.total_before, applied.total_after) == (0, 5)


@fidelity(
    "5 triggers",
    "QoS: the console tells the operating system first and changes the hypervisor only if that succeeded.",
    source="ML:985e48088f",
)
def test_a_refusal_by_the_partition_leaves_both_pools_as_they_were(cluster: Cluster) -> None:
    cluster.qos("lp1", 5)
    cluster.lpars["lp1"].verdict = refuse
    assert told(cluster.qos("lp1", 9), ConsoleFailure).code == "os_refused"
    assert (cluster.pool("lp1", QOS)[0], cluster.pool("lp1")[0]) == (5, 35)
    assert cluster.status().qos_free == 123


@fidelity("5 credits", "QoS credits belong to one partition and are not shared.", source="AIX-NA")
def test_promised_credits_are_nobody_elses(cluster: Cluster) -> None:
    promise(cluster, 100)
    assert cluster.status().qos_free == 28
    refused = told(cluster.qos("lp2", 29), ConsoleFailure)
    assert (refused.available, refused.assigned, refused.requested) == (28, 0, 29)


def test_credits_that_are_to_be_given_back_are_not_free_before_the_partition_agrees(cluster: Cluster) -> None:
    cluster.qos("lp1", 100)
    promise(cluster, 10)
    assert cluster.status().qos_free == 28
    report(cluster.lpars["lp1"], 2)
    assert cluster.status().qos_free == 118


def test_without_an_answer_the_pool_stays_and_the_promise_ends(cluster: Cluster) -> None:
    number = promise(cluster, 100, wait_ms=1_000)
    cluster.advance(1_000_000)
    assert told(cluster.console.answers[number], ConsoleFailure).code == "timeout"
    assert cluster.pool("lp1", QOS)[0] == 0
    assert cluster.status().qos_free == 128


def test_a_partition_that_accepts_after_the_wait_gets_its_credits(cluster: Cluster) -> None:
    promise(cluster, 100, wait_ms=1_000)
    cluster.advance(2_000_000)
    report(cluster.lpars["lp1"], 1)
    assert cluster.pool("lp1", QOS)[0] == 100


def test_a_partition_that_refuses_after_the_wait_gets_nothing(cluster: Cluster) -> None:
    promise(cluster, 100, wait_ms=1_000)
    cluster.advance(2_000_000)
    report(cluster.lpars["lp1"], 1, accepted=False)
    report(cluster.lpars["lp1"], 1)
    assert cluster.pool("lp1", QOS)[0] == 0


def test_a_late_acceptance_gets_what_others_have_left(cluster: Cluster) -> None:
    promise(cluster, 100, wait_ms=1_000)
    cluster.advance(2_000_000)
    cluster.qos("lp2", 60)
    report(cluster.lpars["lp1"], 1)
    assert cluster.pool("lp1", QOS)[0] == 68


def test_a_late_acceptance_keeps_what_the_partition_has(cluster: Cluster) -> None:
    cluster.qos("lp1", 50)
    promise(cluster, 100, wait_ms=1_000)
    cluster.advance(2_000_000)
    cluster.qos("lp2", 60)
    report(cluster.lpars["lp1"], 2)
    assert (cluster.pool("lp1", QOS)[0], cluster.status().qos_free) == (68, 0)


def test_a_late_acceptance_counts_after_a_restart(cluster: Cluster) -> None:
    promise(cluster, 100, wait_ms=1_000)
    cluster.advance(2_000_000)
    cluster.restart()
    cluster.advance(3_000_000)
    report(cluster.lpars["lp1"], 1)
    assert cluster.pool("lp1", QOS)[0] == 100


def test_a_late_acceptance_does_not_undo_a_newer_one(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    promise(cluster, 100, wait_ms=1_000)
    cluster.advance(2_000_000)
    promise(cluster, 7)
    report(lp1, 2)
    report(lp1, 1)
    assert cluster.pool("lp1", QOS)[0] == 7


def test_a_late_acceptance_counts_while_a_newer_change_is_with_the_partition(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    promise(cluster, 100, wait_ms=1_000)
    cluster.advance(2_000_000)
    promise(cluster, 7)
    report(lp1, 1)
    assert cluster.pool("lp1", QOS)[0] == 100
    report(lp1, 2, accepted=False)
    assert cluster.pool("lp1", QOS)[0] == 100


def test_the_death_of_the_partition_gives_its_next_incarnation_the_credits(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    number = promise(cluster, 9, wait_ms=60_000)
    lp1.die()
    cluster.advance(11_000_000)
    applied = told(cluster.console.answers[number], ConfigurationApplied)
    assert (applied.running, applied.total_after) == (False, 9)
    lp1.start()
    assert lp1.capabilities(1).target_lpar_credits == 9


def test_an_expired_promise_dies_with_the_partition(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    promise(cluster, 9, wait_ms=1_000)
    cluster.advance(2_000_000)
    lp1.die()
    cluster.advance(11_000_000)
    lp1.start()
    report(lp1, 1)
    assert cluster.pool("lp1", QOS)[0] == 0


def test_an_expired_promise_is_not_made_again(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.cut = True
    cluster.console.send(SetQosCredits(lpar="lp1", credits=9, wait_ms=1_000))
    cluster.advance(2_000_000)
    lp1.cut = False
    cluster.advance(10_000_000)
    assert (lp1.applied, lp1.generation) == ([], 1)
    assert cluster.pool("lp1", QOS)[0] == 0


# The system, the operating system and the credits, in the HMC's order. Source: domain.md 6.

STATIC_LP1 = [{"name": "lp1", "cores": 2, "dynamic_qos": False}, {"name": "lp2", "cores": 2}]


def test_an_operating_system_without_dynamic_qos_is_not_told_while_it_runs() -> None:
    cluster = Cluster(settings(lpar=STATIC_LP1)).start()
    refused = told(cluster.qos("lp1", 5), ConsoleFailure)
    assert (refused.code, "lp1" in refused.text) == ("HSCLC102", True)
    assert (cluster.pool("lp1", QOS)[0], cluster.status().qos_free) == (0, 128)
    assert cluster.lpars["lp1"].applied == []
    assert told(cluster.qos("lp2", 5), ConfigurationApplied).total_after == 5


def test_it_gets_credits_while_it_is_stopped_and_reads_them_at_its_start() -> None:
    cluster = Cluster(settings(lpar=STATIC_LP1)).start()
    cluster.lpars["lp1"].die()
    cluster.advance(11_000_000)
    assert told(cluster.qos("lp1", 5), ConfigurationApplied).running is False
    cluster.lpars["lp1"].start()
    assert cluster.lpars["lp1"].capabilities(1).target_lpar_credits == 5
    assert told(cluster.qos("lp1", 6), ConsoleFailure).code == "HSCLC102"


def test_it_still_follows_changes_of_its_processors() -> None:
    cluster = Cluster(settings(lpar=STATIC_LP1)).start()
    assert told(cluster.dlpar("lp1", -1), ConfigurationApplied).total_after == 20
    assert len(cluster.lpars["lp1"].applied) == 1


def test_of_several_refusals_the_hmc_names_the_one_that_can_be_helped_least() -> None:
    static = [{"name": "lp1", "cores": 2, "dynamic_qos": False}]
    without = Cluster(settings(lpar=static, accelerators=False)).start()
    assert told(without.qos("lp1", 1_000), ConsoleFailure).code == "HSCLC014"
    assert told(without.qos("lp9", 1_000), ConsoleFailure).code == "unknown_lpar"
    running = Cluster(settings(lpar=static)).start()
    assert told(running.qos("lp1", 1_000), ConsoleFailure).code == "HSCLC102"
    assert told(running.qos("lp1", -1), ConsoleFailure).code == "bad_amount"
    stopped = Cluster(settings(lpar=static))
    stopped.console.start()
    assert told(stopped.qos("lp1", 1_000), ConsoleFailure).code == "HSCLC016"


# Told first, refused, over-committed.


def test_what_a_refusing_kernel_reopened_stays_open_above_the_pool(cluster: Cluster) -> None:
    """Linux writes its total before it reconfigures: a failed write may leave windows that the pool does not have."""
    lp1 = cluster.lpars["lp1"]
    number = promise(cluster, 3)
    window = lp1.open_window(QOS)
    report(lp1, 1, accepted=False)
    assert told(cluster.console.answers[number], ConsoleFailure).code == "os_refused"
    assert cluster.pool("lp1", QOS) == (0, 1)
    assert any(unit.takes_paste(window) for unit in cluster.units.values())
    assert lp1.allocate(QOS).code is HcallCode.H_RESOURCE
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.pool("lp1", QOS) == (0, 0)


def test_a_refused_decrease_leaves_the_pool_its_credits(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    cluster.qos("lp1", 5)
    lp1.verdict = refuse
    assert told(cluster.qos("lp1", 2), ConsoleFailure).code == "os_refused"
    assert (cluster.pool("lp1", QOS)[0], cluster.status().qos_free) == (5, 123)
    assert [lp1.allocate(QOS).code for _ in range(6)] == [HcallCode.H_SUCCESS] * 5 + [HcallCode.H_RESOURCE]
