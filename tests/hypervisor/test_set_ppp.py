"""H_SET_PPP: a partition sets its own entitled capacity (domain.md 5.6). Its real codes are not public."""

from __future__ import annotations

import pytest

from hypervisor.rows import PartitionRow
from protocol.codes import CreditType, HcallCode
from protocol.console_messages import ConfigurationApplied, SetEntitlement
from protocol.effects import Effects
from protocol.hcall_messages import HSetPpp, Reconfigured
from protocol.telemetry_messages import CreditsChanged
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, Kill, settings, told


def set_ppp(cluster: Cluster, hundredths: int, lpar: str = "lp3", weight: int = 0) -> HcallCode:
    return cluster.lpars[lpar].status_of(HSetPpp(entitled_capacity=hundredths, weight=weight))


def hundredths(cluster: Cluster, lpar: str = "lp3") -> int:
    return cluster.lpar_status(lpar).hundredths


@fidelity(
    "1 hcalls",
    "H_SET_PPP (0xF0) sets the entitled capacity of the calling shared-processor partition, and with it the credits "
    "that the hypervisor grants.",
    source="K:hvcall.h",
)
def test_a_shared_partition_sets_its_capacity_and_its_credits_follow(cluster: Cluster) -> None:
    assert set_ppp(cluster, 100) is HcallCode.H_SUCCESS
    assert hundredths(cluster) == 100
    assert cluster.pool("lp3") == (20, 0)
    assert cluster.lpars["lp3"].capabilities(2).target_lpar_credits == 20
    assert set_ppp(cluster, 5) is HcallCode.H_SUCCESS
    assert cluster.pool("lp3") == (1, 0)
    assert not cluster.lpars["lp3"].applied, "the partition knows it already"
    assert cluster.lpar_status("lp3").generation == 0


@fidelity(
    "1 hcalls",
    "H_SET_PPP refuses what the partition cannot have.",
    source="K:hvcall.h",
    differs="Which code means what is not public: here H_PARAMETER for a dedicated partition or less than 5 "
    "hundredths, H_RESOURCE for more than the system has free, H_BUSY during a change of the console.",
)
@pytest.mark.parametrize("wanted", [0, 4])
def test_less_than_the_minimum_is_a_bad_parameter(cluster: Cluster, wanted: int) -> None:
    assert set_ppp(cluster, wanted) is HcallCode.H_PARAMETER
    assert hundredths(cluster) == 80


@fidelity(
    "1 hcalls",
    "H_SET_PPP refuses what the partition cannot have.",
    source="K:hvcall.h",
    differs="Which code means what is not public: here H_PARAMETER for a dedicated partition or less than 5 "
    "hundredths, H_RESOURCE for more than the system has free, H_BUSY during a change of the console.",
)
def test_a_dedicated_partition_has_no_capacity_to_set(cluster: Cluster) -> None:
    assert set_ppp(cluster, 100, "lp1") is HcallCode.H_PARAMETER
    assert set_ppp(cluster, 0, "lp1") is HcallCode.H_PARAMETER
    assert cluster.pool("lp1") == (40, 0)


@fidelity(
    "1 hcalls",
    "H_SET_PPP refuses what the partition cannot have.",
    source="K:hvcall.h",
    differs="Which code means what is not public: here H_PARAMETER for a dedicated partition or less than 5 "
    "hundredths, H_RESOURCE for more than the system has free, H_BUSY during a change of the console.",
)
@pytest.mark.parametrize("wanted", [401, 2**32, 2**64 - 1])
def test_more_than_the_system_has_is_refused_whole(cluster: Cluster, wanted: int) -> None:
    assert set_ppp(cluster, wanted) is HcallCode.H_RESOURCE
    assert hundredths(cluster) == 80
    assert set_ppp(cluster, 400) is HcallCode.H_SUCCESS
    assert cluster.status().hundredths_free == 0
    assert set_ppp(cluster, 400) is HcallCode.H_SUCCESS


def test_a_system_that_has_shrunk_lets_a_partition_keep_or_lower_what_it_has() -> None:
    cluster = Cluster(settings()).start()
    cluster.core.ledger.partitions["lp3"].hundredths = 600
    assert cluster.core.ledger.free_hundredths() < 0
    assert set_ppp(cluster, 600) is HcallCode.H_SUCCESS
    assert set_ppp(cluster, 601) is HcallCode.H_RESOURCE
    assert set_ppp(cluster, 550) is HcallCode.H_SUCCESS


@fidelity(
    "1 hcalls",
    "H_SET_PPP refuses what the partition cannot have.",
    source="K:hvcall.h",
    differs="Which code means what is not public: here H_PARAMETER for a dedicated partition or less than 5 "
    "hundredths, H_RESOURCE for more than the system has free, H_BUSY during a change of the console.",
)
def test_a_change_of_the_console_under_way_makes_it_busy(cluster: Cluster) -> None:
    lp3 = cluster.lpars["lp3"]
    lp3.follows = False
    number = cluster.console.send(SetEntitlement(lpar="lp3", hundredths=60, wait_ms=5_000))
    cluster.pump()
    assert set_ppp(cluster, 100) is HcallCode.H_BUSY
    assert set_ppp(cluster, 4) is HcallCode.H_PARAMETER, "what can never be is said at once"
    lp3.ask(Reconfigured(generation=1, accepted=True))
    cluster.pump()
    assert told(cluster.console.answers[number], ConfigurationApplied).total_after == 12
    assert set_ppp(cluster, 100) is HcallCode.H_SUCCESS
    assert hundredths(cluster) == 100


def test_a_change_whose_wait_expired_and_that_the_kernel_will_still_apply_makes_it_busy(cluster: Cluster) -> None:
    cluster.lpars["lp3"].follows = False
    cluster.entitle("lp3", 60, wait_ms=10)
    assert set_ppp(cluster, 100) is HcallCode.H_BUSY
    cluster.lpars["lp3"].follows = True
    cluster.wait(lambda: cluster.lpar_status("lp3").acknowledged == 1)
    assert set_ppp(cluster, 100) is HcallCode.H_SUCCESS


def test_another_partitions_change_makes_nobody_busy(cluster: Cluster) -> None:
    cluster.lpars["lp1"].follows = False
    cluster.dlpar("lp1", -1, wait_ms=10)
    assert set_ppp(cluster, 100) is HcallCode.H_SUCCESS


@fidelity("5 triggers", "Weight does not decide about credits.", source="ML:be35124103")
def test_a_weight_changes_nothing_and_stores_nothing(cluster: Cluster) -> None:
    before = cluster.store.tables[PartitionRow].copy()
    assert set_ppp(cluster, 80, weight=255) is HcallCode.H_SUCCESS
    assert cluster.pool("lp3") == (16, 0)
    assert cluster.store.tables[PartitionRow] == before


def test_the_new_target_is_published(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[CreditsChanged] = []
    settle = cluster._settle

    def watch(effects: Effects) -> None:
        published.extend(sent.body for sent in effects.published if isinstance(sent.body, CreditsChanged))
        settle(effects)

    monkeypatch.setattr(cluster, "_settle", watch)
    set_ppp(cluster, 100)
    set_ppp(cluster, 100)
    assert [(told.lpar, told.credit_type, told.target) for told in published] == [("lp3", CreditType.DEFAULT, 20)]


@pytest.mark.parametrize("committed", [False, True])
def test_a_kill_between_commit_and_answer_neither_loses_nor_doubles_it(cluster: Cluster, committed: bool) -> None:
    number = cluster.lpars["lp3"].send(HSetPpp(entitled_capacity=100))
    cluster.kill = Kill(turns=1, committed=committed)
    cluster.wait(lambda: number in cluster.lpars["lp3"].answers)
    assert cluster.kills == 1
    reply = cluster.lpars["lp3"].answers[number]
    assert getattr(reply, "code", None) is HcallCode.H_SUCCESS
    assert hundredths(cluster) == 100
    cluster.restart()
    cluster.pump()
    assert hundredths(cluster) == 100
    assert cluster.pool("lp3") == (20, 0)


def test_a_repeated_request_after_a_later_one_does_not_bring_the_old_capacity_back(cluster: Cluster) -> None:
    lp3 = cluster.lpars["lp3"]
    cluster.loses = lambda name, body: name == "lp3" and body.__class__.__name__ == "HcallStatus"
    first = lp3.send(HSetPpp(entitled_capacity=100))
    second = lp3.send(HSetPpp(entitled_capacity=60))
    cluster.advance(500_000)
    assert not {first, second} & lp3.answers.keys()
    cluster.loses = lambda _name, _body: False
    cluster.wait(lambda: {first, second} <= lp3.answers.keys())
    assert hundredths(cluster) == 60


def test_the_consoles_own_change_still_goes_by_the_partition(cluster: Cluster) -> None:
    told(cluster.entitle("lp3", 120), ConfigurationApplied)
    assert [change.amount for change in cluster.lpars["lp3"].applied] == [120]
    assert set_ppp(cluster, 80) is HcallCode.H_SUCCESS
    assert told(cluster.entitle("lp3", 90), ConfigurationApplied).total_before == 16
