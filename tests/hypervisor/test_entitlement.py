"""Credits from processor entitlement. Source: domain.md 5.1."""

from __future__ import annotations

import pytest

from hypervisor.entitlement import default_target, entitled_credits
from protocol.codes import CreditType
from protocol.system import QosRule
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, settings


@fidelity("5 credits", "Dedicated processors are worth 20 default credits a core.", source="K:vas.c")
@pytest.mark.parametrize(("cores", "credits"), [(1, 20), (2, 40), (16, 320), (240, 4800)])
def test_a_dedicated_core_is_worth_twenty_credits(cores: int, credits: int) -> None:
    assert entitled_credits(cores, 0, 20) == credits


@fidelity(
    "5 credits",
    "Shared processors are worth 20 default credits for each processor of entitled capacity: 5 hundredths are 1 "
    "credit.",
    source="LNX:test/serial-tests/credit_utils.c",
)
@pytest.mark.parametrize(("hundredths", "credits"), [(5, 1), (10, 2), (80, 16), (100, 20), (250, 50)])
def test_entitled_capacity_is_worth_twenty_credits_per_processor(hundredths: int, credits: int) -> None:
    assert entitled_credits(0, hundredths, 20) == credits


@fidelity(
    "5 credits",
    "How an entitlement that is no multiple of 0.05 is rounded is not public.",
    source="LNX:test/serial-tests/credit_utils.c",
    differs="Rounded down.",
)
@pytest.mark.parametrize(("hundredths", "credits"), [(9, 1), (14, 2), (79, 15), (99, 19), (104, 20)])
def test_a_part_of_a_credit_is_rounded_down(hundredths: int, credits: int) -> None:
    assert entitled_credits(0, hundredths, 20) == credits


@fidelity("5 credits", "Credit counts have 16 bits: 65,535 is the most of any of them.", source="T:pvas.h")
def test_credits_end_where_their_sixteen_bits_end() -> None:
    assert entitled_credits(1000, 0, 1000) == 65_535


def test_qos_credits_reduce_the_default_credits_of_their_partition() -> None:
    assert default_target(40, 15, QosRule.LPAR) == 25


def test_default_credits_do_not_fall_below_none() -> None:
    assert default_target(40, 50, QosRule.LPAR) == 0


def test_qos_credits_can_leave_the_default_credits_alone() -> None:
    assert default_target(40, 15, QosRule.NONE) == 40


@fidelity(
    "5 credits",
    "A partition's default credits are reduced by its QoS credits; the formula is not public.",
    source="ADD",
    differs='One for one in the same partition; `qos_reduces_default = "none"`: not at all.',
)
@pytest.mark.parametrize(("rule", "default_credits"), [("lpar", 34), ("none", 40)])
def test_the_system_file_says_whether_qos_reduces_default(rule: str, default_credits: int) -> None:
    cluster = Cluster(settings(qos_reduces_default=rule)).start()
    cluster.qos("lp1", 6)
    assert cluster.pool("lp1", CreditType.DEFAULT)[0] == default_credits
    assert cluster.pool("lp1", CreditType.QOS)[0] == 6
    assert cluster.pool("lp2", CreditType.DEFAULT)[0] == 40


@fidelity("5 credits", "Dedicated processors are worth 20 default credits a core.", source="K:vas.c")
@fidelity("5 credits", "A partition has no QoS credits until the HMC gives it some.", source="PC-QOS")
def test_partitions_come_up_with_the_credits_of_the_system_file(cluster: Cluster) -> None:
    assert [cluster.pool(lpar) for lpar in ("lp1", "lp2", "lp3")] == [(40, 0), (40, 0), (16, 0)]


def test_credits_per_core_is_a_setting() -> None:
    cluster = Cluster(settings(credits_per_core=7)).start()
    assert [cluster.pool(lpar)[0] for lpar in ("lp1", "lp3")] == [14, 5]
