"""QoS credits beside default credits: what one pool takes from the other, and from the accelerators (domain.md 5.1)."""

from __future__ import annotations

from protocol.codes import CreditType, HcallCode
from protocol.console_messages import ConfigurationApplied
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, settings, told

QOS = CreditType.QOS


@fidelity(
    "1 over-use",
    "When a partition loses credits the hypervisor revokes no window: requests on all of them keep working until "
    "the operating system closes them.",
    source="ML:b36ad1f66c",
)
def test_lowering_qos_revokes_nothing(cluster: Cluster) -> None:
    cluster.qos("lp1", 3)
    windows = [cluster.lpars["lp1"].open_window(QOS) for _ in range(3)]
    cluster.qos("lp1", 1)
    assert cluster.pool("lp1", QOS) == (1, 3)
    assert all(any(unit.takes_paste(window) for unit in cluster.units.values()) for window in windows)


def test_partitions_may_have_qos_credits_from_the_start() -> None:
    lpar = {"name": "lp1", "cores": 2, "qos_credits": 12}
    cluster = Cluster(settings(lpar=[lpar])).start()
    assert (cluster.pool("lp1", QOS)[0], cluster.pool("lp1")[0]) == (12, 28)
    assert cluster.status().qos_free == 116


@fidelity(
    "5 credits",
    "A partition's default credits are reduced by its QoS credits; the formula is not public.",
    source="ADD",
    differs='One for one in the same partition; `qos_reduces_default = "none"`: not at all.',
)
def test_qos_credits_of_a_partition_may_leave_its_default_credits_as_they_are() -> None:
    cluster = Cluster(settings(qos_reduces_default="none")).start()
    cluster.qos("lp1", 10)
    lp1 = cluster.lpars["lp1"]
    assert [lp1.capabilities(query).target_lpar_credits for query in (1, 2)] == [10, 40]
    codes = [lp1.allocate(kind).code for kind, count in ((QOS, 10), (CreditType.DEFAULT, 40)) for _ in range(count)]
    assert set(codes) == {HcallCode.H_SUCCESS}


@fidelity(
    "5 credits",
    "A partition's default credits are reduced by its QoS credits; the formula is not public.",
    source="ADD",
    differs='One for one in the same partition; `qos_reduces_default = "none"`: not at all.',
)
def test_qos_credits_of_a_partition_are_taken_off_its_default_credits() -> None:
    cluster = Cluster(settings(qos_reduces_default="lpar")).start()
    cluster.qos("lp1", 10)
    lp1 = cluster.lpars["lp1"]
    assert [lp1.capabilities(query).target_lpar_credits for query in (1, 2)] == [10, 30]
    codes = [lp1.allocate().code for _ in range(31)]
    assert codes == [HcallCode.H_SUCCESS] * 30 + [HcallCode.H_RESOURCE]


@fidelity(
    "5 credits",
    "Default credits may be over-committed: partitions can have more windows than the accelerators have slots.",
    source="K:vas.c",
)
def test_default_credits_may_be_over_committed(cluster: Cluster) -> None:
    """More windows than the units' FIFOs have slots: whether a paste finds one is between it and the unit."""
    windows = [cluster.lpars[lpar].open_window(chip=0) for lpar in ("lp1", "lp2") for _ in range(40)]
    slots = sum(chip.fifo_depth for chip in cluster.system.chip)
    assert len(windows) > slots
    assert all(cluster.units["nx0"].takes_paste(window) for window in windows)
    assert told(cluster.qos("lp3", 16), ConfigurationApplied).total_after == 16
    assert cluster.lpars["lp3"].open_window(QOS, chip=0).code is HcallCode.H_SUCCESS
