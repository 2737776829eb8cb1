"""A system without accelerators: no VAS in its hypervisor, everything else as usual. Source: domain.md 1, 6, 9."""

from __future__ import annotations

import pytest

from protocol.codes import CreditType, HcallCode
from protocol.console_messages import ConfigurationApplied, ConsoleFailure
from protocol.hcall_messages import (
    HDeallocateVasWindow,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    NxFeatureCapabilities,
    NxOverallCapabilities,
    VasFeatureCapabilities,
    VasOverallCapabilities,
)
from protocol.message import Request
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, settings, told
from tests.hypervisor.fake_lpar import modify


@pytest.fixture
def bare() -> Cluster:
    return Cluster(settings(accelerators=False)).start()


@fidelity("1 hcalls", "A hypervisor without VAS answers every capability query with H_FUNCTION.", source="K:vas.c")
@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (HQueryVasCapabilities(query_type=0), VasOverallCapabilities(code=HcallCode.H_FUNCTION)),
        (HQueryVasCapabilities(query_type=1), VasFeatureCapabilities(code=HcallCode.H_FUNCTION)),
        (HQueryVasCapabilities(query_type=2), VasFeatureCapabilities(code=HcallCode.H_FUNCTION)),
        (HQueryVasCapabilities(query_type=9), VasFeatureCapabilities(code=HcallCode.H_FUNCTION)),
        (HQueryNxCapabilities(query_type=0), NxOverallCapabilities(code=HcallCode.H_FUNCTION)),
        (HQueryNxCapabilities(query_type=1), NxFeatureCapabilities(code=HcallCode.H_FUNCTION)),
    ],
)
def test_every_capability_query_is_an_unknown_function(bare: Cluster, query: Request, answer: object) -> None:
    assert bare.lpars["lp1"].ask(query) == answer


@pytest.mark.parametrize("credit_type", list(CreditType))
def test_no_window_is_allocated(bare: Cluster, credit_type: CreditType) -> None:
    assert bare.lpars["lp1"].allocate(credit_type).code is HcallCode.H_COP_HW
    assert (bare.windows(), bare.pool("lp1", credit_type)) == ([], (0, 0))


def test_there_is_no_window_to_modify_fetch_from_or_give_back(bare: Cluster) -> None:
    lp1 = bare.lpars["lp1"]
    assert lp1.status_of(modify(1)) is lp1.status_of(HDeallocateVasWindow(window_id=1)) is HcallCode.H_PARAMETER
    assert lp1.fetch(1).code is HcallCode.H_PARAMETER


@fidelity(
    "5 triggers",
    "Where copy/paste is not enabled a change of processors or of entitled capacity succeeds, and nothing is asked.",
    source="ML:5d15f82b21",
)
def test_processors_move_as_ever(bare: Cluster) -> None:
    """DLPAR must succeed without the feature."""
    applied = told(bare.dlpar("lp1", -1), ConfigurationApplied)
    assert (applied.running, applied.total_before, applied.total_after) == (True, 0, 0)
    assert told(bare.dlpar("lp2", +1), ConfigurationApplied).running
    assert told(bare.entitle("lp3", 100), ConfigurationApplied).running
    assert [bare.lpar_status(lpar).cores for lpar in ("lp1", "lp2")] == [1, 3]


def test_the_hmc_has_no_qos_credits_to_give(bare: Cluster) -> None:
    refused = told(bare.qos("lp1", 5), ConsoleFailure)
    assert (refused.code, refused.available) == ("HSCLC014", None)
    assert "accelerators" in refused.text
    assert bare.lpars["lp1"].applied == []


def test_windows_that_a_system_had_before_it_lost_its_accelerators_can_be_given_back(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    window_id = lp1.open_window().window_id
    cluster.system = settings(accelerators=False)
    cluster.restart()
    assert lp1.allocate().code is HcallCode.H_COP_HW
    assert lp1.deallocate(window_id) is HcallCode.H_SUCCESS
    assert cluster.windows() == []
