"""What the system can give: cores, entitlement and QoS credits, and the three numbers of a refusal."""

from __future__ import annotations

import pytest

from hypervisor.core import HypervisorCore
from protocol.console_messages import ConfigurationApplied, ConsoleFailure
from tests.fidelity.rows import fidelity
from tests.hypervisor.cluster import Cluster, settings, told


def numbers(failure: ConsoleFailure) -> tuple[str, int | None, int | None, int | None]:
    return failure.code, failure.available, failure.assigned, failure.requested


def test_cores_are_refused_by_available_assigned_and_requested(cluster: Cluster) -> None:
    assert numbers(told(cluster.dlpar("lp1", +4), ConsoleFailure)) == ("no_processors", 3, 2, 4)
    assert cluster.lpar_status("lp1").cores == 2


def test_every_core_of_the_system_can_be_given(cluster: Cluster) -> None:
    assert told(cluster.dlpar("lp1", +3), ConfigurationApplied).total_after == 100
    assert numbers(told(cluster.dlpar("lp1", +1), ConsoleFailure)) == ("no_processors", 0, 5, 1)
    assert cluster.status().hundredths_free == 20


def test_entitlement_is_refused_by_available_assigned_and_requested(cluster: Cluster) -> None:
    assert numbers(told(cluster.entitle("lp3", 401), ConsoleFailure)) == ("no_processors", 320, 80, 321)
    assert told(cluster.entitle("lp3", 400), ConfigurationApplied).total_after == 80


@fidelity("5 credits", "QoS credits belong to one partition and are not shared.", source="AIX-NA")
def test_qos_credits_are_refused_by_available_assigned_and_requested() -> None:
    cluster = Cluster(settings(qos_credits=34)).start()
    cluster.qos("lp2", 22)
    cluster.qos("lp1", 3)
    assert numbers(told(cluster.qos("lp2", 50), ConsoleFailure)) == ("HSCLC016", 9, 22, 28)
    text = told(cluster.qos("lp2", 50), ConsoleFailure).text
    assert text == (
        "not enough GZIP QoS credits: available system QoS 9, assigned partition QoS 22, "
        "additional requested partition QoS 28"
    )
    assert told(cluster.qos("lp2", 31), ConfigurationApplied).total_after == 31
    assert cluster.status().qos_free == 0


@fidelity(
    "1 over-use",
    "The hypervisor expects the operating system to give up the windows beyond the target, as a good citizen.",
    source="ML:b36ad1f66c",
    differs="It does not wait for that: the cores of a partition that keeps its windows are at once another one's.",
)
def test_cores_that_one_partition_loses_are_at_once_another_ones(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    for _ in range(40):
        lp1.open_window()
    cluster.dlpar("lp2", +3)
    cluster.hold("lp1", hold=True)
    lp1.follows = False
    assert told(cluster.dlpar("lp1", -1, wait_ms=1), ConsoleFailure).code == "timeout"
    assert told(cluster.dlpar("lp2", +1), ConfigurationApplied).total_after == 120
    assert (cluster.pool("lp1"), cluster.pool("lp2")) == ((20, 40), (120, 0))


def test_a_dedicated_partition_keeps_a_core(cluster: Cluster) -> None:
    assert told(cluster.dlpar("lp1", -2), ConsoleFailure).code == "too_few_processors"
    assert told(cluster.dlpar("lp1", -(2**31)), ConsoleFailure).code == "too_few_processors"
    assert cluster.pool("lp1")[0] == 40


@pytest.mark.parametrize("hundredths", [4, 0, -1, -(2**31)])
def test_a_shared_partition_keeps_a_twentieth_of_a_processor(cluster: Cluster, hundredths: int) -> None:
    assert told(cluster.entitle("lp3", hundredths), ConsoleFailure).code == "too_few_processors"
    assert told(cluster.entitle("lp3", 5), ConfigurationApplied).total_after == 1


@pytest.mark.parametrize("amount", [2**31 - 1, 1_000_000])
def test_absurd_amounts_are_refused_in_the_same_form(cluster: Cluster, amount: int) -> None:
    assert told(cluster.dlpar("lp1", amount), ConsoleFailure).requested == amount
    assert told(cluster.entitle("lp3", amount), ConsoleFailure).requested == amount - 80


@fidelity("5 credits", "Credit counts have 16 bits: 65,535 is the most of any of them.", source="T:pvas.h")
@pytest.mark.parametrize("credits", [-1, 65_536, -(2**31), 2**31 - 1])
def test_qos_credits_are_a_sixteen_bit_number(cluster: Cluster, credits: int) -> None:
    assert told(cluster.qos("lp1", credits), ConsoleFailure).code == "bad_amount"


def test_a_dedicated_partition_has_no_entitlement_and_a_shared_one_no_cores(cluster: Cluster) -> None:
    assert told(cluster.entitle("lp1", 100), ConsoleFailure).code == "wrong_mode"
    assert told(cluster.dlpar("lp3", +1), ConsoleFailure).code == "wrong_mode"


def test_an_unknown_partition_is_named(cluster: Cluster) -> None:
    for refused in (cluster.dlpar("lp9", 1), cluster.entitle("lp9", 80), cluster.qos("lp9", 1)):
        assert told(refused, ConsoleFailure).code == "unknown_lpar"
        assert "lp1, lp2, lp3" in told(refused, ConsoleFailure).advice


def test_a_partition_that_is_not_running_is_changed_for_its_next_start() -> None:
    cluster = Cluster()
    cluster.console.start()
    applied = told(cluster.dlpar("lp1", -1), ConfigurationApplied)
    assert (applied.running, applied.total_before, applied.total_after) == (False, 40, 20)
    assert told(cluster.qos("lp1", 5), ConfigurationApplied).running is False
    lp1 = cluster.lpars["lp1"]
    lp1.start()
    assert lp1.capabilities(2).target_lpar_credits == 15
    assert lp1.capabilities(1).target_lpar_credits == 5
    cluster.advance(3_000_000)
    assert (lp1.applied, lp1.generation) == ([], 2)


def shrunk(cluster: Cluster, **changes: object) -> None:
    """Restart the hypervisor with a smaller machine under the same ledger."""
    cluster.system = settings(**changes)
    cluster.restart()
    assert isinstance(cluster.core, HypervisorCore)


def test_on_a_machine_that_has_become_too_small_everything_can_still_be_lowered(cluster: Cluster) -> None:
    cluster.dlpar("lp1", +3)
    cluster.entitle("lp3", 100)
    cluster.qos("lp1", 100)
    cluster.qos("lp2", 20)
    one_core_less = [{"number": 0, "unit": "nx0", "cores": 4}, {"number": 1, "unit": "nx1", "cores": 1}]
    shrunk(cluster, chip=one_core_less, qos_credits=30)
    assert told(cluster.dlpar("lp1", -1), ConfigurationApplied).total_after == 0
    assert told(cluster.entitle("lp3", 80), ConfigurationApplied).total_after == 16
    assert told(cluster.qos("lp1", 50), ConfigurationApplied).total_after == 50
    assert told(cluster.dlpar("lp2", +1), ConsoleFailure).code == "no_processors"
    assert told(cluster.qos("lp2", 21), ConsoleFailure).code == "HSCLC016"
