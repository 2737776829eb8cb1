"""A kernel that keeps its windows after its credits were taken: the excess is shown, and nobody else pays for it."""

from __future__ import annotations

from protocol.codes import CreditType, HcallCode
from protocol.effects import Effects
from tests.hypervisor.cluster import Cluster
from vasbus.top.picture import Picture


class Observed(Cluster):
    """A cluster whose telemetry makes a picture, as `vasbus top` has it."""

    def __init__(self) -> None:
        self.picture = Picture()
        super().__init__()

    def _settle(self, effects: Effects) -> None:
        for envelope in effects.published:
            self.picture.apply(envelope.body)
        super()._settle(effects)


def test_the_excess_is_in_status_metrics_and_telemetry() -> None:
    cluster = Observed()
    cluster.start()
    cluster.picture.replace(cluster.status())
    lp1 = cluster.lpars["lp1"]
    windows = [lp1.open_window() for _ in range(30)]
    cluster.dlpar("lp1", -1)
    pool = next(pool for pool in cluster.lpar_status("lp1").pools if pool.credit_type is CreditType.DEFAULT)
    assert (pool.target, pool.in_use, pool.excess) == (20, 30, 10)
    (excess,) = [
        sample.value
        for family in cluster.core.metrics()
        if family.name == "vasbus_credits_excess"
        for sample in family.samples
        if sample.labels == ("lp1", "default")
    ]
    assert excess == 10
    assert cluster.picture.lpars["lp1"].pools[CreditType.DEFAULT].excess == 10
    assert all(cluster.units[place.unit].takes_paste(window) for window in windows if (place := window.paste_address))
    assert lp1.allocate().code is HcallCode.H_RESOURCE


def test_a_new_window_is_refused_until_the_excess_is_gone(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    windows = [lp1.open_window() for _ in range(22)]
    cluster.dlpar("lp1", -1)
    for window in windows[:2]:
        assert lp1.allocate().code is HcallCode.H_RESOURCE
        lp1.deallocate(window.window_id)
    assert lp1.allocate().code is HcallCode.H_RESOURCE, "at the target, not below it"
    lp1.deallocate(windows[2].window_id)
    assert lp1.allocate().code is HcallCode.H_SUCCESS
