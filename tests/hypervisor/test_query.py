"""The capability buffers. Source: domain.md 2.1."""

from __future__ import annotations

import pytest

from protocol.codes import CreditType, HcallCode
from protocol.hcall_messages import (
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    NxFeatureCapabilities,
    NxOverallCapabilities,
    VasFeatureCapabilities,
    VasOverallCapabilities,
)
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, settings, told

CAPABILITIES = (VasOverallCapabilities, VasFeatureCapabilities, NxOverallCapabilities, NxFeatureCapabilities)
QUERIES = [
    *(HQueryVasCapabilities(query_type=query_type) for query_type in (0, 1, 2)),
    *(HQueryNxCapabilities(query_type=query_type) for query_type in (0, 1)),
]


# Capabilities.


@fidelity(
    "2 capabilities",
    "The overall VAS buffer is a bitmap: IBM bit 1 for GZIP QoS windows, bit 2 for GZIP default ones.",
    source="K:vas.h",
)
def test_both_window_types_exist(cluster: Cluster) -> None:
    overall = told(cluster.lpars["lp1"].ask(HQueryVasCapabilities(query_type=0)), VasOverallCapabilities)
    assert (overall.code, overall.feature_types) == (HcallCode.H_SUCCESS, 0x6000_0000_0000_0000)


@fidelity(
    "2 capabilities",
    "The buffer of a window type holds a descriptor (VQosGzip, VDefGzip), the type, the user mode and the "
    "credits: the partition's ceiling, a window's, and those assigned now.",
    source="T:pvas.h",
)
@fidelity(
    "2 capabilities",
    "win_type is 0 for QoS and 1 for default, user_mode is 1 for copy/paste.",
    source="T:pvas.h",
)
@fidelity(
    "2 capabilities",
    "The meaning of max_lpar_creds and def_lpar_creds beyond their names is not public.",
    source="T:pvas.h",
    differs="The ceiling is what all cores of the system are worth (QoS: the system's QoS credits), def_lpar_creds "
    "what the partition's processors are worth before QoS is taken off.",
)
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


@fidelity(
    "2 capabilities",
    "The buffer of a window type holds a descriptor (VQosGzip, VDefGzip), the type, the user mode and the "
    "credits: the partition's ceiling, a window's, and those assigned now.",
    source="T:pvas.h",
)
@fidelity(
    "2 capabilities",
    "win_type is 0 for QoS and 1 for default, user_mode is 1 for copy/paste.",
    source="T:pvas.h",
)
@fidelity("2 capabilities", "The two bytes of def_lpar_creds are reserved in the QoS buffer.", source="T:pvas.h")
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


@fidelity("5 credits", "Credit counts have 16 bits: 65,535 is the most of any of them.", source="T:pvas.h")
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


@fidelity("1 hcalls", "A capability query of an unknown type is H_PARAMETER.", source="K:vas.c")
@pytest.mark.parametrize("query_type", [3, 255])
def test_an_unknown_vas_query_is_a_wrong_parameter(cluster: Cluster, query_type: int) -> None:
    assert cluster.lpars["lp1"].capabilities(query_type).code is HcallCode.H_PARAMETER


@fidelity("2 capabilities", "The overall NX buffer is a bitmap: IBM bit 1 for GZIP.", source="K:vas.h")
def test_the_accelerator_is_gzip(cluster: Cluster) -> None:
    overall = told(cluster.lpars["lp1"].ask(HQueryNxCapabilities(query_type=0)), NxOverallCapabilities)
    assert overall.feature_types == 0x4000_0000_0000_0000


@fidelity(
    "2 capabilities",
    "The NX buffer holds the most bytes of a request and the least worth compressing and decompressing.",
    source="T:nx",
)
def test_the_accelerators_limits_are_those_of_the_system_file() -> None:
    cluster = Cluster(settings(request_limit_bytes=65_536, min_compress_bytes=100)).start()
    limits = told(cluster.lpars["lp1"].ask(HQueryNxCapabilities(query_type=1)), NxFeatureCapabilities)
    assert (limits.req_max_processed_len, limits.min_compress_len, limits.min_decompress_len) == (65_536, 100, 32_768)


@fidelity(
    "2 capabilities",
    "The NX buffer holds the most bytes of a request and the least worth compressing and decompressing.",
    source="T:nx",
)
@fidelity("2 capabilities", "A POWER10 was seen to tell 1048576, 32768 and 32768.", source="ADD")
def test_the_usual_limits_are_those_of_a_power10(cluster: Cluster) -> None:
    limits = told(cluster.lpars["lp1"].ask(HQueryNxCapabilities(query_type=1)), NxFeatureCapabilities)
    told_bytes = (limits.req_max_processed_len, limits.min_compress_len, limits.min_decompress_len)
    assert told_bytes == (1_048_576, 32_768, 32_768)


@fidelity("1 hcalls", "A capability query of an unknown type is H_PARAMETER.", source="K:vas.c")
def test_an_unknown_nx_query_is_a_wrong_parameter(cluster: Cluster) -> None:
    reply = told(cluster.lpars["lp1"].ask(HQueryNxCapabilities(query_type=2)), NxFeatureCapabilities)
    assert reply.code is HcallCode.H_PARAMETER


@fidelity(
    "1 hcalls",
    "A capability query with a bad buffer is H_PRIVILEGE; it is to be a real address on 4 KiB.",
    source="K:vas.c",
)
@pytest.mark.parametrize("address", [1, 128, 4_095, 0x1_0800, 1 << 56, 0xC000_0000_0000_0000, (1 << 64) - 4_096])
@pytest.mark.parametrize("query", QUERIES)
def test_a_buffer_that_the_hypervisor_cannot_write_is_refused(
    cluster: Cluster, query: HQueryVasCapabilities | HQueryNxCapabilities, address: int
) -> None:
    """Also one at an address of the kernel's own (0xC000...), which is no real one."""
    lp1 = cluster.lpars["lp1"]
    refused = lp1.ask(query.model_copy(update={"buffer_address": address}))
    assert isinstance(refused, CAPABILITIES)
    assert refused == type(refused)(code=HcallCode.H_PRIVILEGE), "nothing is told"
    for good in (0, 4_096, (1 << 56) - 4_096):
        answer = lp1.ask(query.model_copy(update={"buffer_address": good}))
        assert isinstance(answer, CAPABILITIES)
        assert answer.code is HcallCode.H_SUCCESS


def test_the_query_type_is_looked_at_before_the_buffer(cluster: Cluster) -> None:
    for query in (HQueryVasCapabilities(query_type=3, buffer_address=1), HQueryNxCapabilities(query_type=2)):
        refused = cluster.lpars["lp1"].ask(query)
        assert isinstance(refused, CAPABILITIES)
        assert refused.code is HcallCode.H_PARAMETER
