"""Which codes the VAS and NX hcalls give: each of them can be got, and of each other one it is said why not."""

from __future__ import annotations

import pytest

from protocol.codes import Hcall, HcallCode
from protocol.hcall_messages import HDeallocateVasWindow, HQueryNxCapabilities, HQueryVasCapabilities
from protocol.message import Request
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.hcall_answers import ANSWERS, asking, code_of, opened

SUCCESS, BUSY, CONSTRAINED = HcallCode.H_SUCCESS, HcallCode.H_BUSY, HcallCode.H_CONSTRAINED
LONG_1, LONG_10 = HcallCode.H_LONG_BUSY_ORDER_1_MSEC, HcallCode.H_LONG_BUSY_ORDER_10_MSEC
PARAMETER, P2, P3, STATE = HcallCode.H_PARAMETER, HcallCode.H_P2, HcallCode.H_P3, HcallCode.H_STATE
RESOURCE, COP_HW, FUNCTION, PRIVILEGE = (
    HcallCode.H_RESOURCE, HcallCode.H_COP_HW, HcallCode.H_FUNCTION, HcallCode.H_PRIVILEGE
)  # fmt: skip

WRITTEN: dict[Hcall, set[HcallCode]] = {
    Hcall.H_ALLOCATE_VAS_WINDOW: {SUCCESS, BUSY, LONG_1, LONG_10, PARAMETER, P2, COP_HW, RESOURCE, CONSTRAINED},
    Hcall.H_MODIFY_VAS_WINDOW: {SUCCESS, BUSY, LONG_1, LONG_10, PARAMETER, P2, P3, STATE},
    Hcall.H_DEALLOCATE_VAS_WINDOW: {SUCCESS, BUSY, LONG_1, LONG_10, PARAMETER, STATE},
    Hcall.H_QUERY_VAS_WINDOW: {SUCCESS, PARAMETER},
    Hcall.H_QUERY_VAS_CAPABILITIES: {SUCCESS, PARAMETER, PRIVILEGE, FUNCTION},
    Hcall.H_QUERY_NX_CAPABILITIES: {SUCCESS, PARAMETER, PRIVILEGE, FUNCTION},
    Hcall.H_GET_NX_FAULT: {SUCCESS, PARAMETER, STATE, PRIVILEGE},
    Hcall.H_HOME_NODE_ASSOCIATIVITY: {SUCCESS, P2},
}
"""The codes of domain.md 1; those of H_QUERY_VAS_WINDOW are ours, no source has any."""
NOT_GIVEN = {
    (Hcall.H_ALLOCATE_VAS_WINDOW, BUSY): "it is decided at once from the hypervisor's tables",
    (Hcall.H_ALLOCATE_VAS_WINDOW, LONG_1): "as above",
    (Hcall.H_ALLOCATE_VAS_WINDOW, LONG_10): "as above",
    (Hcall.H_MODIFY_VAS_WINDOW, LONG_1): "is for requests that a deallocation waits for",
    (Hcall.H_DEALLOCATE_VAS_WINDOW, STATE): "there are no page table entries that could be invalid",
}
ADDED = {
    (Hcall.H_MODIFY_VAS_WINDOW, HcallCode.H_HARDWARE): "the NX unit has less room than it said",
    (Hcall.H_MODIFY_VAS_WINDOW, HcallCode.H_LONG_BUSY_ORDER_100_MSEC): "the NX unit is taken for dead or hung",
}
OTHERS = {
    HcallCode.H_IN_USE: "names the refusal of a second session of one name; no hcall ends with it",
}
OTHER_HCALLS = {Hcall.H_SET_PPP, Hcall.H_JOIN, Hcall.H_VASI_SIGNAL, Hcall.H_VASI_STATE}
"""Those have tables of their own: test_set_ppp.py and test_mobility.py."""


def given(hcall: Hcall) -> dict[HcallCode, HcallCode]:
    """Each code of the table beside the code that came when it was gone for, each in a system of its own."""
    return {code: way(Cluster().start()) for code, way in ANSWERS[hcall].items()}


def all_as_told(hcall: Hcall) -> bool:
    came = given(hcall)
    assert came == {code: code for code in came}
    return True


@fidelity("1 hcalls", "H_ALLOCATE_VAS_WINDOW of an unknown window type is H_PARAMETER.", source="ML:0bab8a44ac")
@fidelity(
    "1 hcalls",
    "H_ALLOCATE_VAS_WINDOW with more credits than a window may have is H_P2; on PowerVM that is 1.",
    source="ML:0bab8a44ac",
)
@fidelity("1 hcalls", "H_ALLOCATE_VAS_WINDOW above the partition's credit limit is H_RESOURCE.", source="ML:0bab8a44ac")
@fidelity(
    "1 hcalls",
    "H_ALLOCATE_VAS_WINDOW is H_CONSTRAINED while that many credits are not available.",
    source="ML:0bab8a44ac",
    differs="Where it is drawn against H_RESOURCE is not public: here it is within the limit, and no NX unit takes it.",
)
@fidelity(
    "1 hcalls",
    "H_ALLOCATE_VAS_WINDOW where user-mode copy/paste is not supported is H_COP_HW.",
    source="ML:0bab8a44ac",
)
def test_allocate_gives_each_of_its_codes() -> None:
    assert all_as_told(Hcall.H_ALLOCATE_VAS_WINDOW)


@fidelity(
    "1 hcalls",
    "Where H_HARDWARE and H_NOT_ACTIVE are used is not public.",
    source="K:hvcall.h",
    differs="H_MODIFY_VAS_WINDOW is H_HARDWARE where an NX unit has less room than it said; H_NOT_ACTIVE never comes.",
)
@fidelity(
    "1 hcalls", "H_MODIFY_VAS_WINDOW may be busy or long-busy, and is then to be made again.", source="ML:0bab8a44ac"
)
def test_modify_gives_each_of_its_codes() -> None:
    assert all_as_told(Hcall.H_MODIFY_VAS_WINDOW)


@fidelity(
    "1 hcalls",
    "H_DEALLOCATE_VAS_WINDOW may be busy or long-busy, and is then to be made again.",
    source="ML:279484f574",
)
@fidelity(
    "1 hcalls", "H_DEALLOCATE_VAS_WINDOW of a window that the partition does not have is H_PARAMETER.",
    source="ML:0bab8a44ac",
)  # fmt: skip
def test_deallocate_gives_each_of_its_codes() -> None:
    assert all_as_told(Hcall.H_DEALLOCATE_VAS_WINDOW)


@pytest.mark.parametrize(
    "hcall",
    [
        Hcall.H_QUERY_VAS_WINDOW, Hcall.H_QUERY_VAS_CAPABILITIES, Hcall.H_QUERY_NX_CAPABILITIES,
        Hcall.H_GET_NX_FAULT, Hcall.H_HOME_NODE_ASSOCIATIVITY,
    ],
)  # fmt: skip
def test_the_other_hcalls_give_each_of_their_codes(hcall: Hcall) -> None:
    assert all_as_told(hcall)


@fidelity(
    "1 hcalls",
    "H_ALLOCATE_VAS_WINDOW may be busy or long-busy.",
    source="ML:279484f574",
    differs="It never is: it is decided at once from the hypervisor's tables.",
)
def test_an_allocation_is_never_busy(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    draining, silent = opened(cluster), opened(cluster)
    cluster.units["nx0"].contexts[draining].in_flight = 1
    lp1.send(HDeallocateVasWindow(window_id=draining))
    cluster.units["nx0"].mute = True
    lp1.send(HDeallocateVasWindow(window_id=silent))
    asked_us = cluster.now_us
    assert lp1.allocate(chip=0).code is SUCCESS
    assert cluster.now_us == asked_us


@fidelity(
    "1 hcalls",
    "Capability queries never return a busy code, and to the kernel one would be an error like any other.",
    source="ML:d262fa2e0f",
)
@pytest.mark.parametrize("query", [HQueryVasCapabilities(query_type=2), HQueryNxCapabilities(query_type=1)])
def test_a_capability_query_is_never_busy(cluster: Cluster, query: Request) -> None:
    """Whatever else is under way: a change, a window that drains, units that are silent or gone."""
    lp1 = cluster.lpars["lp1"]
    window_id = opened(cluster)
    cluster.units["nx0"].contexts[window_id].in_flight = 1
    lp1.send(HDeallocateVasWindow(window_id=window_id))
    cluster.hold("lp1", hold=True)
    for unit in cluster.units.values():
        unit.mute = True
    asked_us = cluster.now_us
    assert code_of(lp1.ask(query)) is SUCCESS
    for unit in cluster.units.values():
        unit.die()
    assert asking(query)(cluster) is SUCCESS
    assert cluster.now_us == asked_us


# Nothing is missing.


def test_every_hcall_has_a_table() -> None:
    assert ANSWERS.keys() | OTHER_HCALLS == set(Hcall)


@pytest.mark.parametrize("hcall", ANSWERS)
def test_the_codes_that_are_written_of_an_hcall_are_given_or_it_is_said_why_not(hcall: Hcall) -> None:
    left_over = {code for (of, code) in NOT_GIVEN if of is hcall}
    added = {code for (of, code) in ADDED if of is hcall}
    assert not left_over & ANSWERS[hcall].keys()
    assert WRITTEN[hcall] - left_over == ANSWERS[hcall].keys() - added


def test_every_code_is_given_by_an_hcall_or_it_is_said_why_not() -> None:
    come = {code for answers in ANSWERS.values() for code in answers}
    assert not come & OTHERS.keys()
    assert come | OTHERS.keys() == set(HcallCode)
