"""H_ALLOCATE_VAS_WINDOW: its return codes, and where the window goes. Source: domain.md 1."""

from __future__ import annotations

import pytest

from protocol.codes import CreditType, HcallCode
from protocol.hcall_messages import Associativity, HAllocateVasWindow, HHomeNodeAssociativity, WindowAllocated
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, settings, told


@fidelity(
    "5 open",
    "Windows and credits of the partition are the same number, because each window has one window credit.",
    source="ADD",
)
def test_a_window_takes_a_credit_as_soon_as_it_is_allocated(cluster: Cluster) -> None:
    window = cluster.lpars["lp1"].allocate()
    assert window.code is HcallCode.H_SUCCESS
    assert cluster.pool("lp1") == (40, 1)


@fidelity(
    "1 hcalls",
    "H_ALLOCATE_VAS_WINDOW returns a window id, a paste address, a completion interrupt and a fault interrupt.",
    source="K:vas.c",
)
def test_a_window_has_two_interrupts_and_a_paste_address_at_its_unit(cluster: Cluster) -> None:
    window = cluster.lpars["lp1"].allocate()
    address = window.paste_address
    assert address is not None
    assert (address.window_id, address.unit) == (window.window_id, "nx0")
    assert address.endpoints == {"local": "ipc:///run/nx0.nxunit"}
    assert window.completion_interrupt != window.fault_interrupt


@fidelity(
    "1 hcalls",
    "H_ALLOCATE_VAS_WINDOW returns a window id, a paste address, a completion interrupt and a fault interrupt.",
    source="K:vas.c",
)
def test_every_window_has_its_own_token_interrupts_and_address(cluster: Cluster) -> None:
    windows = [cluster.lpars["lp1"].allocate() for _ in range(6)]
    addresses = [window.paste_address for window in windows if window.paste_address is not None]
    assert len({address.token for address in addresses}) == 6
    assert len({address.address for address in addresses}) == 6
    assert len({i for w in windows for i in (w.completion_interrupt, w.fault_interrupt)}) == 12


@pytest.mark.parametrize("window_type", [2, 3, 255])
def test_an_unknown_window_type_is_a_wrong_parameter(cluster: Cluster, window_type: int) -> None:
    assert cluster.lpars["lp1"].allocate(window_type).code is HcallCode.H_PARAMETER
    assert cluster.windows() == []


@fidelity(
    "5 open",
    "Windows and credits of the partition are the same number, because each window has one window credit.",
    source="ADD",
)
@pytest.mark.parametrize("credits", [0, 2, 65_535])
def test_a_window_has_one_credit_no_more_no_less(cluster: Cluster, credits: int) -> None:
    assert cluster.lpars["lp1"].allocate(credits=credits).code is HcallCode.H_P2
    assert cluster.windows() == []


def test_at_its_target_a_partition_gets_h_resource(cluster: Cluster) -> None:
    lp3 = cluster.lpars["lp3"]
    assert all(lp3.allocate().code is HcallCode.H_SUCCESS for _ in range(16))
    refused = lp3.allocate()
    assert (refused.code, refused.paste_address) == (HcallCode.H_RESOURCE, None)
    assert cluster.pool("lp3") == (16, 16)


@fidelity(
    "1 over-use",
    "What the hypervisor refuses is a new allocation while the partition is at or above its target.",
    source="ML:b36ad1f66c",
)
def test_above_a_lowered_target_a_partition_gets_h_resource_until_it_is_below_again(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    windows = [lp1.allocate() for _ in range(25)]
    cluster.dlpar("lp1", -1)
    assert cluster.pool("lp1") == (20, 25)
    for window in windows[:6]:
        assert lp1.allocate().code is HcallCode.H_RESOURCE
        assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert lp1.allocate().code is HcallCode.H_SUCCESS


@fidelity("5 credits", "A partition has no QoS credits until the HMC gives it some.", source="PC-QOS")
@fidelity(
    "5 open",
    "The two types are independent: closed windows of one do not hinder opens of the other.",
    source="K:vas.c",
)
def test_the_two_pools_are_independent(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    assert lp1.allocate(CreditType.QOS).code is HcallCode.H_RESOURCE
    cluster.qos("lp1", 2)
    assert [lp1.allocate(CreditType.QOS).code for _ in range(3)][1:] == [HcallCode.H_SUCCESS, HcallCode.H_RESOURCE]
    assert lp1.allocate(CreditType.DEFAULT).code is HcallCode.H_SUCCESS
    assert (cluster.pool("lp1", CreditType.QOS), cluster.pool("lp1")) == ((2, 2), (38, 1))


def test_one_partition_never_uses_the_credits_of_another(cluster: Cluster) -> None:
    for _ in range(16):
        cluster.lpars["lp3"].allocate()
    assert cluster.lpars["lp3"].allocate().code is HcallCode.H_RESOURCE
    assert cluster.lpars["lp2"].allocate().code is HcallCode.H_SUCCESS


def test_without_any_unit_the_credit_is_there_but_the_window_is_not() -> None:
    cluster = Cluster()
    lp1 = cluster.lpars["lp1"]
    lp1.start()
    cluster.console.start()
    assert lp1.allocate().code is HcallCode.H_CONSTRAINED
    assert cluster.pool("lp1") == (40, 0)


def test_the_target_is_looked_at_before_the_units() -> None:
    cluster = Cluster()
    lp1 = cluster.lpars["lp1"]
    lp1.start()
    assert lp1.allocate(CreditType.QOS).code is HcallCode.H_RESOURCE


def test_with_every_unit_full_a_window_is_constrained() -> None:
    cluster = Cluster()
    for unit in cluster.units.values():
        unit.limit = 2
    cluster.start()
    lp1 = cluster.lpars["lp1"]
    assert [lp1.allocate().code for _ in range(5)] == [HcallCode.H_SUCCESS] * 4 + [HcallCode.H_CONSTRAINED]


def test_with_every_unit_suspected_a_window_is_constrained(cluster: Cluster) -> None:
    for unit in cluster.units.values():
        unit.cut = True
    cluster.advance(4_000_000)
    assert cluster.lpars["lp1"].allocate().code is HcallCode.H_CONSTRAINED


def test_a_unit_that_is_heard_again_takes_windows_again(cluster: Cluster) -> None:
    for unit in cluster.units.values():
        unit.cut = True
    cluster.advance(4_000_000)
    for unit in cluster.units.values():
        unit.cut = False
    cluster.wait(lambda: all(unit.dialer.established for unit in cluster.units.values()))
    assert cluster.lpars["lp1"].allocate().code is HcallCode.H_SUCCESS


# Placement.


def unit_of(cluster: Cluster, lpar: str, chip: int | None = None) -> str:
    window = cluster.lpars[lpar].allocate() if chip is None else cluster.lpars[lpar].allocate(chip=chip)
    assert window.paste_address is not None, window.code
    return window.paste_address.unit


def test_the_callers_home_chip_is_taken_where_one_is_named(cluster: Cluster) -> None:
    assert [unit_of(cluster, "lp1", chip=1) for _ in range(4)] == ["nx1"] * 4


@fidelity(
    "1 hcalls",
    "The six domain words choose the chip as H_HOME_NODE_ASSOCIATIVITY returned them; all ones in the first "
    "leaves the choice to the hypervisor.",
    source="K:vas.c",
)
def test_otherwise_the_unit_with_the_fewest_windows_is_taken_ties_by_number(cluster: Cluster) -> None:
    assert [unit_of(cluster, "lp1") for _ in range(4)] == ["nx0", "nx1", "nx0", "nx1"]


def test_ties_go_by_the_chips_number_not_by_the_order_of_the_system_file() -> None:
    chips = [{"number": 1, "unit": "nx1", "cores": 4}, {"number": 0, "unit": "nx0", "cores": 4}]
    cluster = Cluster(settings(chip=chips)).start()
    assert [unit_of(cluster, "lp1") for _ in range(2)] == ["nx0", "nx1"]


def test_the_windows_of_all_partitions_count_for_the_choice(cluster: Cluster) -> None:
    for _ in range(3):
        unit_of(cluster, "lp2", chip=0)
    assert [unit_of(cluster, "lp1") for _ in range(4)] == ["nx1", "nx1", "nx1", "nx0"]


def test_a_full_home_chip_gives_way_to_another() -> None:
    cluster = Cluster()
    cluster.units["nx1"].limit = 1
    cluster.start()
    assert [unit_of(cluster, "lp1", chip=1) for _ in range(2)] == ["nx1", "nx0"]


def test_a_suspected_home_chip_gives_way_to_another(cluster: Cluster) -> None:
    cluster.units["nx1"].cut = True
    cluster.advance(4_000_000)
    assert unit_of(cluster, "lp1", chip=1) == "nx0"


def test_an_unknown_home_chip_leaves_the_choice_to_the_hypervisor(cluster: Cluster) -> None:
    assert unit_of(cluster, "lp1", chip=77) == "nx0"


def test_the_system_file_bounds_a_units_windows() -> None:
    cluster = Cluster(settings(limits={"windows_per_unit": 1})).start()
    assert [cluster.lpars["lp1"].allocate().code for _ in range(3)][1:] == [
        HcallCode.H_SUCCESS,
        HcallCode.H_CONSTRAINED,
    ]


@fidelity(
    "1 hcalls",
    "The six domain words choose the chip as H_HOME_NODE_ASSOCIATIVITY returned them; all ones in the first "
    "leaves the choice to the hypervisor.",
    source="K:vas.c",
)
def test_the_home_chip_is_what_associativity_told(cluster: Cluster) -> None:
    lp2 = cluster.lpars["lp2"]
    told_domain = told(lp2.ask(HHomeNodeAssociativity(flags=0, processor_id=3)), Associativity)
    assert told_domain.code is HcallCode.H_SUCCESS
    assert len(told_domain.domain) == 6
    asked = HAllocateVasWindow(window_type=CreditType.DEFAULT, credits=1, domain=told_domain.domain)
    address = told(lp2.ask(asked), WindowAllocated).paste_address
    assert address is not None
    assert address.unit == "nx1"


@fidelity(
    "1 hcalls",
    "H_HOME_NODE_ASSOCIATIVITY for a processor that the partition does not have is H_P2.",
    source="ML:aea66de840",
)
@pytest.mark.parametrize(("lpar", "processors"), [("lp1", 16), ("lp3", 8)])
def test_a_processor_that_the_partition_does_not_have_is_a_wrong_second_argument(
    cluster: Cluster, lpar: str, processors: int
) -> None:
    codes = [
        told(cluster.lpars[lpar].ask(HHomeNodeAssociativity(flags=0, processor_id=number)), Associativity).code
        for number in (0, processors - 1, processors, 1 << 63)
    ]
    assert codes == [HcallCode.H_SUCCESS, HcallCode.H_SUCCESS, HcallCode.H_P2, HcallCode.H_P2]


# Window ids.


def test_window_ids_are_never_used_again(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    seen = []
    for _ in range(5):
        window = lp1.open_window()
        seen.append(window.window_id)
        lp1.deallocate(window.window_id)
    assert seen == sorted(set(seen))


def test_window_ids_are_not_used_again_after_a_restart(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    before = lp1.open_window().window_id
    lp1.deallocate(before)
    cluster.restart()
    assert lp1.open_window().window_id > before
