"""The capability buffers and H_QUERY_VAS_WINDOW. Source: domain.md 2.1."""

from __future__ import annotations

import pytest

from protocol.codes import CreditType, HcallCode, WindowStatus
from protocol.hcall_messages import (
    HDeallocateVasWindow,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    HQueryVasWindow,
    NxFeatureCapabilities,
    NxOverallCapabilities,
    VasFeatureCapabilities,
    VasOverallCapabilities,
    WindowState,
)
from tests.hypervisor.cluster import Cluster, settings, told
from tests.hypervisor.fake_lpar import modify


def state(cluster: Cluster, window_id: int, lpar: str = "lp1") -> WindowState:
    return told(cluster.lpars[lpar].ask(HQueryVasWindow(window_id=window_id)), WindowState)


# Capabilities.


def test_both_window_types_exist(cluster: Cluster) -> None:
    overall = told(cluster.lpars["lp1"].ask(HQueryVasCapabilities(query_type=0)), VasOverallCapabilities)
    assert (overall.code, overall.feature_types) == (HcallCode.H_SUCCESS, 0x6000_0000_0000_0000)


def test_the_default_buffer_has_the_kernels_numbers(cluster: Cluster) -> None:
    cluster.qos("lp1", 4)
    buffer = cluster.lpars["lp1"].capabilities(2)
    assert buffer == VasFeatureCapabilities(
        code=HcallCode.H_SUCCESS,
        descriptor=0x56446566477A6970,
        window_type=CreditType.DEFAULT,
        user_mode=1,
        max_lpar_credits=160,
        max_window_credits=1,
        default_lpar_credits=40,
        target_lpar_credits=36,
    )


def test_the_qos_buffer_has_the_kernels_numbers(cluster: Cluster) -> None:
    cluster.qos("lp1", 4)
    buffer = cluster.lpars["lp1"].capabilities(1)
    assert buffer == VasFeatureCapabilities(
        code=HcallCode.H_SUCCESS,
        descriptor=0x56516F73477A6970,
        window_type=CreditType.QOS,
        user_mode=1,
        max_lpar_credits=128,
        max_window_credits=1,
        default_lpar_credits=0,
        target_lpar_credits=4,
    )


def test_the_ceiling_of_a_large_system_is_sixteen_bits_wide() -> None:
    cluster = Cluster(
        settings(
            credits_per_core=1000,
            chip=[{"number": 0, "unit": "nx0", "cores": 100}],
            lpar=[{"name": "lp1", "cores": 80}],
        )
    ).start()
    buffer = cluster.lpars["lp1"].capabilities(2)
    assert (buffer.max_lpar_credits, buffer.target_lpar_credits) == (65_535, 65_535)


@pytest.mark.parametrize("query_type", [3, 255])
def test_an_unknown_vas_query_is_a_wrong_parameter(cluster: Cluster, query_type: int) -> None:
    assert cluster.lpars["lp1"].capabilities(query_type).code is HcallCode.H_PARAMETER


def test_the_accelerator_is_gzip(cluster: Cluster) -> None:
    overall = told(cluster.lpars["lp1"].ask(HQueryNxCapabilities(query_type=0)), NxOverallCapabilities)
    assert overall.feature_types == 0x4000_0000_0000_0000


def test_the_accelerators_limits_are_those_of_the_system_file() -> None:
    cluster = Cluster(settings(request_limit_bytes=65_536, min_compress_bytes=100)).start()
    limits = told(cluster.lpars["lp1"].ask(HQueryNxCapabilities(query_type=1)), NxFeatureCapabilities)
    assert (limits.req_max_processed_len, limits.min_compress_len, limits.min_decompress_len) == (65_536, 100, 32_768)


def test_an_unknown_nx_query_is_a_wrong_parameter(cluster: Cluster) -> None:
    reply = told(cluster.lpars["lp1"].ask(HQueryNxCapabilities(query_type=2)), NxFeatureCapabilities)
    assert reply.code is HcallCode.H_PARAMETER


# The state of a window.


def test_an_open_window_is_active(cluster: Cluster) -> None:
    window = cluster.lpars["lp1"].open_window()
    told_state = state(cluster, window.window_id)
    assert window.paste_address is not None
    assert told_state == WindowState(
        code=HcallCode.H_SUCCESS,
        version=1,
        window_type=1,
        status=WindowStatus.ACTIVE,
        credits=1,
        process_id=77,
        paste_address=window.paste_address.address,
        completion_interrupt=window.completion_interrupt,
        fault_interrupt=window.fault_interrupt,
    )


def test_a_window_that_does_not_exist_has_no_state(cluster: Cluster) -> None:
    assert state(cluster, 7).code is HcallCode.H_PARAMETER


def test_a_foreign_window_has_no_state(cluster: Cluster) -> None:
    window = cluster.lpars["lp1"].open_window()
    assert state(cluster, window.window_id, "lp2").code is HcallCode.H_PARAMETER


def test_a_window_is_busy_before_it_is_bound_and_while_it_drains(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.allocate().window_id
    assert state(cluster, window_id).status is WindowStatus.BUSY
    nx0.mute = True
    lp1.send(modify(window_id))
    assert state(cluster, window_id).status is WindowStatus.BUSY
    nx0.mute = False
    nx0.speak()
    cluster.pump()
    nx0.contexts[window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=window_id))
    assert state(cluster, window_id).status is WindowStatus.BUSY


def test_a_drained_window_is_closed_until_the_kernel_gives_it_back(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.open_window().window_id
    nx0.contexts[window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=window_id))
    nx0.complete(window_id)
    cluster.pump()
    assert state(cluster, window_id).status is WindowStatus.CLOSED


def test_a_window_on_a_lost_unit_has_failed_hardware_until_the_unit_is_back(cluster: Cluster) -> None:
    window_id = cluster.lpars["lp1"].open_window().window_id
    nx0 = cluster.units["nx0"]
    nx0.die()
    cluster.advance(31_000_000)
    assert state(cluster, window_id).status is WindowStatus.HARDWARE_FAILURE
    nx0.start()
    cluster.wait(lambda: window_id in nx0.contexts)
    assert state(cluster, window_id).status is WindowStatus.ACTIVE


def test_a_window_for_which_the_returned_unit_has_no_room_has_failed_hardware(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    first, second = (lp1.open_window(chip=0) for _ in range(2))
    nx0.die()
    cluster.advance(1_000_000)
    nx0.limit = 1
    nx0.start()
    cluster.wait(lambda: bool(nx0.contexts))
    cluster.pump()
    statuses = {state(cluster, window.window_id).status for window in (first, second)}
    assert statuses == {WindowStatus.ACTIVE, WindowStatus.HARDWARE_FAILURE}
    assert lp1.deallocate(first.window_id) is lp1.deallocate(second.window_id) is HcallCode.H_SUCCESS
    assert (nx0.contexts, cluster.windows()) == ({}, [])
