"""The hypervisor starts with an old ledger and another system file."""

from __future__ import annotations

from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.console_messages import SetQosCredits
from tests.hypervisor.cluster import Cluster, settings


def test_the_windows_of_a_unit_that_is_no_longer_there_can_be_given_back(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window = lp1.open_window(chip=1)
    cluster.units["nx1"].die()
    cluster.system = settings(
        chip=[{"number": 0, "unit": "nx0", "cores": 8}],
        lpar=[{"name": "lp1", "cores": 2}, {"name": "lp2", "cores": 2}],
    )
    cluster.restart()
    cluster.advance(3 * SECOND_US)
    assert [row.window_id for row in cluster.windows()] == [window.window_id]
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.windows() == []


def test_a_partition_that_is_no_longer_there_loses_its_windows_changes_and_session(cluster: Cluster) -> None:
    lp3 = cluster.lpars["lp3"]
    window = lp3.open_window()
    lp3.follows = False
    for credits in (1, 2):
        cluster.console.send(SetQosCredits(lpar="lp3", credits=credits, wait_ms=2_000))
    cluster.pump()
    before = cluster.system
    cluster.system = settings(lpar=[{"name": "lp1", "cores": 2}])
    cluster.restart()
    cluster.advance(60 * SECOND_US)
    assert not any(unit.takes_paste(window) for unit in cluster.units.values())
    assert (cluster.windows(), [lpar.name for lpar in cluster.status().lpars]) == ([], ["lp1"])
    cluster.system = before
    cluster.restart()
    cluster.advance(SECOND_US)
    assert cluster.lpar_status("lp3").state == "not_activated"
