"""How changes reach the driver: notices, beats, drmgr's paths, and the report back (domain.md 5.6)."""

from __future__ import annotations

import pytest

from protocol.codes import CreditType, HcallCode
from protocol.hcall_messages import (
    ConfigurationKind,
    HDeallocateVasWindow,
    HQueryVasCapabilities,
    QueryConfiguration,
    Reconfigured,
)
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import FakeHypervisor, Silence
from tests.lpar.partition import Partition, booted

ASK_DEFAULT = HQueryVasCapabilities(query_type=2)


@fidelity(
    "5 triggers",
    "Dedicated processors: when a processor node comes or goes the kernel asks for its default credits and fits "
    "its windows to them.",
    source="K:vas.c",
)
def test_a_dedicated_partition_asks_for_its_default_credits_when_processors_change() -> None:
    partition = booted(40)
    partition.hypervisor.targets[CreditType.DEFAULT] = 20
    report = partition.change(ConfigurationKind.CPU, 1)
    assert report == Reconfigured(generation=1, accepted=True)
    assert partition.hypervisor.made == [ASK_DEFAULT]
    assert partition.credits() == (20, 0)


@fidelity(
    "5 triggers",
    "Virtual processors alone change no credits of a shared partition: its kernel ignores what it is told of them.",
    source="ML:be35124103",
    differs="The kernel ignores them likewise, but nobody can change them: drmgr and chhwres refuse.",
)
def test_a_shared_partition_ignores_virtual_processors() -> None:
    partition = booted(16, shared=True)
    partition.hypervisor.targets[CreditType.DEFAULT] = 20
    assert partition.change(ConfigurationKind.CPU, 3).accepted
    assert not partition.hypervisor.made
    assert partition.credits() == (16, 0)


@fidelity(
    "5 triggers",
    "A shared partition's credits follow its entitled capacity: with a new one the kernel asks for the default "
    "capabilities and fits its windows to them.",
    source="ML:be35124103",
)
def test_a_shared_partition_follows_its_entitlement() -> None:
    partition = booted(16, shared=True)
    partition.hypervisor.targets[CreditType.DEFAULT] = 20
    assert partition.change(ConfigurationKind.ENTITLEMENT, 100).accepted
    assert partition.hypervisor.made == [ASK_DEFAULT]
    assert partition.credits() == (20, 0)
    assert "partition_entitled_capacity=100\n" in partition.read("/proc/powerpc/lparcfg")


@fidelity(
    "5 credits",
    "When QoS credits change Linux does not ask for the default credits that this changes.",
    source="K:vas-sysfs.c",
)
@fidelity("5 triggers", "QoS: a write to update_total_credits reconfigures that type alone.", source="K:vas-sysfs.c")
def test_qos_credits_come_by_drmgr_and_neither_type_is_asked_for() -> None:
    partition = booted(40, qos=4)
    partition.open_windows(4, qos=True)
    partition.hypervisor.made.clear()
    report = partition.change(ConfigurationKind.QOS, 2)
    assert report == Reconfigured(generation=1, accepted=True, closed=(4, 3))
    assert partition.hypervisor.made == [HDeallocateVasWindow(window_id=4), HDeallocateVasWindow(window_id=3)]
    assert partition.credits(CreditType.QOS) == (2, 4)
    assert partition.credits() == (40, 0)


def test_qos_credits_that_do_not_fit_are_refused_with_drmgrs_words() -> None:
    partition = booted(40, qos=4)
    report = partition.change(ConfigurationKind.QOS, 65_536)
    assert not report.accepted
    assert report.error.startswith("Could not write QoS credits")
    assert partition.credits(CreditType.QOS) == (4, 0)


def test_without_qos_support_drmgr_cannot_open_the_file() -> None:
    hypervisor = FakeHypervisor({CreditType.DEFAULT: 4, CreditType.QOS: 0}, features=1 << 61)
    partition = Partition(hypervisor)
    partition.settle()
    report = partition.change(ConfigurationKind.QOS, 2)
    assert not report.accepted
    assert report.error.startswith("Could not open ")
    assert report.error.endswith(" to write QoS credits")


@fidelity(
    "5 triggers",
    "Where copy/paste is not enabled a change of processors or of entitled capacity succeeds, and nothing is asked.",
    source="ML:5d15f82b21",
)
@pytest.mark.parametrize("shared", [False, True])
def test_processor_changes_succeed_without_the_accelerator(shared: bool) -> None:
    partition = booted(4, shared=shared)
    partition.core.kernel.driver.copy_paste = False
    kind = ConfigurationKind.ENTITLEMENT if shared else ConfigurationKind.CPU
    assert partition.change(kind, 1) == Reconfigured(generation=1, accepted=True)
    assert not partition.hypervisor.made


@fidelity(
    "1 hcalls",
    "Capability queries never return a busy code, and to the kernel one would be an error like any other.",
    source="ML:d262fa2e0f",
)
@fidelity(
    "5 triggers",
    "A failing capability query leaves the total as it was, and the processor change is told of it.",
    source="K:vas.c",
)
@pytest.mark.parametrize("code", [HcallCode.H_HARDWARE, HcallCode.H_BUSY, HcallCode.H_LONG_BUSY_ORDER_1_MSEC])
def test_a_failing_capability_query_is_reported(code: HcallCode) -> None:
    partition = booted(4)
    partition.hypervisor.returns(HQueryVasCapabilities, code)
    report = partition.change(ConfigurationKind.CPU, 1)
    assert not report.accepted
    assert code.name in report.error
    assert partition.credits() == (4, 0)
    assert partition.hypervisor.made == [ASK_DEFAULT]


def test_a_held_notice_is_made_up_for_by_the_generation_in_a_beat() -> None:
    partition = booted(4)
    partition.hypervisor.targets[CreditType.DEFAULT] = 2
    partition.hypervisor.announce(ConfigurationKind.CPU, 1, notify=False)
    partition.settle()
    assert not partition.hypervisor.reports
    partition.advance(1_000)
    assert [report.generation for report in partition.hypervisor.reports] == [1]
    assert partition.credits() == (2, 0)
    asked = len(partition.hypervisor.asked)
    partition.advance(5_000)
    assert len(partition.hypervisor.asked) == asked
    assert len(partition.hypervisor.reports) == 1


def test_a_repeated_notice_is_applied_once() -> None:
    partition = booted(4)
    partition.hypervisor.returns(HQueryVasCapabilities, Silence.HOLD)
    partition.hypervisor.announce(ConfigurationKind.CPU, 1)
    pending = partition.hypervisor.pending
    assert pending is not None
    partition.settle()
    for session in partition.hypervisor.listener.sessions.values():
        partition.hypervisor.listener.notify(session, pending)
    partition.advance(3_000)
    partition.hypervisor.release()
    partition.advance(3_000)
    assert [report.generation for report in partition.hypervisor.reports] == [1]
    assert partition.hypervisor.made.count(ASK_DEFAULT) == 1


def test_generations_are_applied_in_order() -> None:
    partition = booted(10)
    partition.open_windows(10)
    for total in (7, 8, 3, 10):
        partition.retarget(total)
    reports = partition.hypervisor.reports
    assert [report.generation for report in reports] == [1, 2, 3, 4]
    assert [len(report.closed) for report in reports] == [3, 0, 5, 0]
    assert [len(report.reopened) for report in reports] == [0, 1, 0, 7]
    assert [asked.generation for asked in partition.hypervisor.asked] == [0, 0, 1, 2, 3]


def test_at_boot_the_first_answer_is_the_base() -> None:
    hypervisor = FakeHypervisor({CreditType.DEFAULT: 4, CreditType.QOS: 0}, generation=17)
    partition = Partition(hypervisor)
    partition.advance(5_000)
    assert hypervisor.asked == [QueryConfiguration(generation=0)]
    assert not hypervisor.reports
    assert partition.core.kernel.configuration.generation == 17


def test_a_change_pending_at_boot_is_applied_after_boot() -> None:
    hypervisor = FakeHypervisor({CreditType.DEFAULT: 4, CreditType.QOS: 0}, generation=16)
    hypervisor.announce(ConfigurationKind.QOS, 3)
    partition = Partition(hypervisor)
    partition.settle()
    assert hypervisor.reports == [Reconfigured(generation=17, accepted=True)]
    assert partition.credits(CreditType.QOS) == (3, 0)


def test_a_change_that_is_no_longer_pending_is_passed_over_without_a_storm_of_questions() -> None:
    partition = booted(4)
    partition.hypervisor.generation = 9
    partition.hypervisor.told_generation = 8
    partition.advance(3_500)
    assert [asked.generation for asked in partition.hypervisor.asked] == [0, 0, 8, 8]
    partition.hypervisor.told_generation = 9
    partition.advance(5_000)
    assert [asked.generation for asked in partition.hypervisor.asked] == [0, 0, 8, 8, 8]
    assert partition.core.kernel.configuration.generation == 9


def test_a_reconfiguration_waits_its_turn_behind_an_open() -> None:
    partition = booted(2)
    partition.open_windows(2)
    partition.hypervisor.returns(HDeallocateVasWindow, Silence.HOLD)
    partition.hypervisor.targets[CreditType.DEFAULT] = 1
    partition.hypervisor.announce(ConfigurationKind.CPU, 1)
    partition.settle()
    assert partition.credits() == (1, 2)
    assert not partition.hypervisor.reports
    partition.hypervisor.release()
    partition.settle()
    assert partition.hypervisor.reports[-1].closed == (2,)
