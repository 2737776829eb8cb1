"""Every code that the hypervisor answers to the VAS and NX hcalls, each with a way to get it."""

from __future__ import annotations

from collections.abc import Callable

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.codes import MODIFY_FLAGS, Hcall, HcallCode
from protocol.hcall_messages import (
    HDeallocateVasWindow,
    HGetNxFault,
    HHomeNodeAssociativity,
    HModifyVasWindow,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    HQueryVasWindow,
)
from protocol.message import Request
from tests.hypervisor.cluster import Cluster, settings
from tests.hypervisor.fake_lpar import modify

Way = Callable[[Cluster], HcallCode]
NOBODYS_WINDOW = 999


def code_of(reply: object) -> HcallCode:
    code = getattr(reply, "code", None)
    assert isinstance(code, HcallCode), reply
    return code


def asking(request: Request) -> Way:
    """lp1 makes an hcall for which nothing has to be prepared."""
    return lambda cluster: code_of(cluster.lpars["lp1"].ask(request))


def bare(request: Request) -> Way:
    """The hcall in a system without accelerators."""
    return lambda _cluster: code_of(Cluster(settings(accelerators=False)).start().lpars["lp1"].ask(request))


def opened(cluster: Cluster) -> int:
    """A window of lp1 at nx0."""
    return cluster.lpars["lp1"].open_window(chip=0).window_id


def deallocate(cluster: Cluster, window_id: int) -> HcallCode:
    return cluster.lpars["lp1"].status_of(HDeallocateVasWindow(window_id=window_id))


# Allocate.


def no_credit(cluster: Cluster) -> HcallCode:
    codes = [cluster.lpars["lp3"].allocate().code for _ in range(17)]
    assert codes[:16] == [HcallCode.H_SUCCESS] * 16
    return codes[16]


def no_unit(cluster: Cluster) -> HcallCode:
    for unit in cluster.units.values():
        unit.cut = True
    cluster.advance(4_000_000)
    return cluster.lpars["lp1"].allocate().code


def no_accelerators(_cluster: Cluster) -> HcallCode:
    return Cluster(settings(accelerators=False)).start().lpars["lp1"].allocate().code


# Modify.


def modify_while_draining(cluster: Cluster) -> HcallCode:
    window_id = opened(cluster)
    cluster.units["nx0"].contexts[window_id].in_flight = 1
    deallocate(cluster, window_id)
    return cluster.lpars["lp1"].status_of(modify(window_id))


def modify_at_a_silent_unit(cluster: Cluster) -> HcallCode:
    window_id = cluster.lpars["lp1"].allocate(chip=0).window_id
    cluster.units["nx0"].mute = True
    return cluster.lpars["lp1"].status_of(modify(window_id))


def modify_at_a_full_unit(cluster: Cluster) -> HcallCode:
    window_id = cluster.lpars["lp1"].allocate(chip=0).window_id
    cluster.units["nx0"].limit = 0
    return cluster.lpars["lp1"].status_of(modify(window_id))


def modify_at_a_unit_out_of_reach(cluster: Cluster) -> HcallCode:
    window_id = cluster.lpars["lp1"].allocate(chip=0).window_id
    cluster.units["nx0"].cut = True
    cluster.advance(cluster.system.times.suspect_ms * MILLISECOND_US + SECOND_US)
    return cluster.lpars["lp1"].status_of(modify(window_id))


def modify_with_jobs_in_progress(cluster: Cluster) -> HcallCode:
    window_id = opened(cluster)
    cluster.units["nx0"].contexts[window_id].in_flight = 1
    return cluster.lpars["lp1"].status_of(modify(window_id, 88))


def modify_with_a_bad_thread(cluster: Cluster) -> HcallCode:
    body = HModifyVasWindow(window_id=opened(cluster), process_id=7, thread_id=1 << 32, flags=MODIFY_FLAGS)
    return cluster.lpars["lp1"].status_of(body)


# Deallocate.


def deallocate_while_it_is_being_bound(cluster: Cluster) -> HcallCode:
    window_id = cluster.lpars["lp1"].allocate(chip=0).window_id
    cluster.units["nx0"].mute = True
    cluster.lpars["lp1"].send(modify(window_id))
    return deallocate(cluster, window_id)


def deallocate_with_a_request_in_flight(cluster: Cluster) -> HcallCode:
    window_id = opened(cluster)
    cluster.units["nx0"].contexts[window_id].in_flight = 1
    return deallocate(cluster, window_id)


def deallocate_at_a_silent_unit(cluster: Cluster) -> HcallCode:
    window_id = opened(cluster)
    cluster.units["nx0"].mute = True
    return deallocate(cluster, window_id)


# Faults and the state of a window.


def fetch_a_fault(cluster: Cluster) -> HcallCode:
    window_id = opened(cluster)
    cluster.units["nx0"].fault(window_id)
    cluster.pump()
    return cluster.lpars["lp1"].fetch(window_id).code


def query_a_window(cluster: Cluster) -> HcallCode:
    return code_of(cluster.lpars["lp1"].ask(HQueryVasWindow(window_id=opened(cluster))))


VAS, NX = HQueryVasCapabilities, HQueryNxCapabilities
ANSWERS: dict[Hcall, dict[HcallCode, Way]] = {
    Hcall.H_ALLOCATE_VAS_WINDOW: {
        HcallCode.H_SUCCESS: lambda cluster: cluster.lpars["lp1"].allocate().code,
        HcallCode.H_PARAMETER: lambda cluster: cluster.lpars["lp1"].allocate(2).code,
        HcallCode.H_P2: lambda cluster: cluster.lpars["lp1"].allocate(credits=2).code,
        HcallCode.H_RESOURCE: no_credit,
        HcallCode.H_CONSTRAINED: no_unit,
        HcallCode.H_COP_HW: no_accelerators,
    },
    Hcall.H_MODIFY_VAS_WINDOW: {
        HcallCode.H_SUCCESS: lambda cluster: cluster.lpars["lp1"].status_of(modify(opened(cluster), 88)),
        HcallCode.H_BUSY: modify_while_draining,
        HcallCode.H_LONG_BUSY_ORDER_10_MSEC: modify_at_a_silent_unit,
        HcallCode.H_LONG_BUSY_ORDER_100_MSEC: modify_at_a_unit_out_of_reach,
        HcallCode.H_PARAMETER: asking(modify(NOBODYS_WINDOW)),
        HcallCode.H_P2: lambda cluster: cluster.lpars["lp1"].status_of(modify(opened(cluster), 1 << 32)),
        HcallCode.H_P3: modify_with_a_bad_thread,
        HcallCode.H_STATE: modify_with_jobs_in_progress,
        HcallCode.H_HARDWARE: modify_at_a_full_unit,
    },
    Hcall.H_DEALLOCATE_VAS_WINDOW: {
        HcallCode.H_SUCCESS: lambda cluster: deallocate(cluster, opened(cluster)),
        HcallCode.H_BUSY: deallocate_while_it_is_being_bound,
        HcallCode.H_LONG_BUSY_ORDER_1_MSEC: deallocate_with_a_request_in_flight,
        HcallCode.H_LONG_BUSY_ORDER_10_MSEC: deallocate_at_a_silent_unit,
        HcallCode.H_PARAMETER: asking(HDeallocateVasWindow(window_id=NOBODYS_WINDOW)),
    },
    Hcall.H_QUERY_VAS_WINDOW: {
        HcallCode.H_SUCCESS: query_a_window,
        HcallCode.H_PARAMETER: asking(HQueryVasWindow(window_id=NOBODYS_WINDOW)),
    },
    Hcall.H_QUERY_VAS_CAPABILITIES: {
        HcallCode.H_SUCCESS: asking(VAS(query_type=2)),
        HcallCode.H_PARAMETER: asking(VAS(query_type=3)),
        HcallCode.H_PRIVILEGE: asking(VAS(query_type=2, buffer_address=8)),
        HcallCode.H_FUNCTION: bare(VAS(query_type=2)),
    },
    Hcall.H_QUERY_NX_CAPABILITIES: {
        HcallCode.H_SUCCESS: asking(NX(query_type=1)),
        HcallCode.H_PARAMETER: asking(NX(query_type=2)),
        HcallCode.H_PRIVILEGE: asking(NX(query_type=1, buffer_address=8)),
        HcallCode.H_FUNCTION: bare(NX(query_type=1)),
    },
    Hcall.H_GET_NX_FAULT: {
        HcallCode.H_SUCCESS: fetch_a_fault,
        HcallCode.H_PARAMETER: asking(HGetNxFault(window_id=NOBODYS_WINDOW, buffer_address=0)),
        HcallCode.H_STATE: lambda cluster: cluster.lpars["lp1"].fetch(opened(cluster)).code,
        HcallCode.H_PRIVILEGE: lambda cluster: cluster.lpars["lp1"].fetch(opened(cluster), 8).code,
    },
    Hcall.H_HOME_NODE_ASSOCIATIVITY: {
        HcallCode.H_SUCCESS: asking(HHomeNodeAssociativity(flags=1, processor_id=0)),
        HcallCode.H_P2: asking(HHomeNodeAssociativity(flags=1, processor_id=16)),
    },
}


def is_known(request_type: str, code: HcallCode) -> bool:
    """Whether the table has this code for the hcall of a request, named as in messages; true for other hcalls."""
    hcall = Hcall[request_type.upper()]
    return hcall not in ANSWERS or code in ANSWERS[hcall]
