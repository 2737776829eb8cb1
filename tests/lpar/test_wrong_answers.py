"""The hypervisor answers what the kernel did not ask: the call fails with EIO, and nothing else is touched."""

from __future__ import annotations

import errno
from collections import deque

import pytest

from protocol.codes import CreditType, HcallCode, KernelReason
from protocol.device_messages import FileText, OsFailure, ReadFile, TxWinOpen
from protocol.hcall_messages import (
    Associativity,
    Configuration,
    ConfigurationChange,
    ConfigurationKind,
    HAllocateVasWindow,
    HcallStatus,
    HDeallocateVasWindow,
    HModifyVasWindow,
    HQueryVasCapabilities,
    Noted,
    VasFeatureCapabilities,
    VasOverallCapabilities,
    WindowAllocated,
)
from protocol.message import Message, Reply, Request
from protocol.refusals import RefusalCode
from protocol.wire import refuse
from tests.lpar.hypervisor import FakeHypervisor, paste_address
from tests.lpar.partition import Partition, booted, system_of

GOOD = HcallCode.H_SUCCESS
REFUSED = refuse(RefusalCode.BODY, "a window of this partition", "another")


def failing_open(partition: Partition) -> OsFailure:
    client = partition.process()
    return partition.fails(client, TxWinOpen(descriptor=partition.device(client)), KernelReason.HCALL_FAILED)


def allocated(window_id: int, address_of: int) -> WindowAllocated:
    return WindowAllocated(code=GOOD, window_id=window_id, paste_address=paste_address(address_of), fault_interrupt=9)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (allocated(1, 1), "window 1 once more"),
        (allocated(7, 1), "window 7 with the paste address of window 1"),
        (HcallStatus(code=GOOD), "answered by hcall_status"),
        (Associativity(code=GOOD), "answered by associativity"),
    ],
)
def test_an_allocation_that_names_anothers_window_gives_none(reply: Reply, said: str) -> None:
    partition = booted(10)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HAllocateVasWindow, reply)
    failure = failing_open(partition)
    assert (failure.errno, said in failure.detail) == (errno.EIO, True), failure
    assert partition.credits() == (10, 1)
    assert partition.interrupt_lines() == [window.window_id]
    partition.close(window)
    assert partition.hypervisor.made[-1] == HDeallocateVasWindow(window_id=1)
    assert partition.credits() == (10, 0)


def test_a_window_that_would_come_back_as_another_one_stays_closed() -> None:
    partition = booted(2)
    windows = partition.open_windows(2)
    partition.retarget(1)
    partition.hypervisor.returns(HAllocateVasWindow, allocated(1, 1))
    report = partition.retarget(2)
    assert (report.accepted, "window 1 once more" in report.error, report.reopened) == (False, True, ())
    assert partition.interrupt_lines() == [windows[0].window_id]
    assert partition.with_status("no_cred_close") == [2]


@pytest.mark.parametrize("request_type", [HModifyVasWindow, HDeallocateVasWindow])
@pytest.mark.parametrize("reply", [WindowAllocated(code=GOOD, window_id=3), Associativity(code=GOOD)])
def test_the_success_of_another_hcall_is_none_of_this_one(request_type: type[Request], reply: Reply) -> None:
    partition = booted(10)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(request_type, reply)
    if request_type is HModifyVasWindow:
        failing_open(partition)
    else:
        partition.close(window)
        assert [facts["window"] for facts in partition.logged("window_leaked")] == [1]
    assert 1 in partition.interrupt_lines()


@pytest.mark.parametrize(
    "reply",
    [
        VasOverallCapabilities(code=GOOD, feature_types=1),
        VasFeatureCapabilities(code=GOOD, window_type=CreditType.QOS, target_lpar_credits=3),
        Associativity(code=GOOD),
    ],
    ids=["overall", "the other type", "another hcall"],
)
def test_credits_of_another_query_are_not_taken_for_these(reply: Reply) -> None:
    partition = booted(10, qos=4)
    partition.open_windows(6)
    partition.hypervisor.returns(HQueryVasCapabilities, reply)
    report = partition.retarget(5)
    assert (report.accepted, report.closed) == (False, ())
    assert partition.credits() == (10, 6)


# The configuration.


def change(generation: int, amount: int = 1) -> ConfigurationChange:
    return ConfigurationChange(generation=generation, kind=ConfigurationKind.QOS, amount=amount)


@pytest.mark.parametrize(
    "wrong",
    [
        Configuration(generation=2, change=change(1, amount=5)),
        Configuration(generation=2, change=change(3, amount=5)),
        Configuration(generation=1, change=change(2, amount=5)),
        Noted(),
        REFUSED,
    ],
    ids=["applied already", "newer than the newest", "older newest", "another answer", "a refusal"],
)
def test_a_change_that_cannot_be_the_next_is_not_applied_and_the_next_one_is(wrong: Message) -> None:
    partition = booted(10, qos=0)
    partition.hypervisor.announce(ConfigurationKind.QOS, 3)
    partition.settle()
    assert partition.credits(CreditType.QOS) == (3, 0)
    partition.hypervisor.tells.append(wrong)
    partition.hypervisor.announce(ConfigurationKind.QOS, 7)
    partition.settle()
    assert [report.generation for report in partition.hypervisor.reports] == [1]
    assert partition.credits(CreditType.QOS) == (3, 0)
    partition.advance(1_100)
    assert [report.generation for report in partition.hypervisor.reports] == [1, 2]
    assert partition.credits(CreditType.QOS) == (7, 0)


def test_a_change_told_again_for_ever_is_asked_after_at_the_pace_of_the_beats() -> None:
    partition = booted(10)
    partition.hypervisor.announce(ConfigurationKind.QOS, 3)
    partition.settle()
    partition.hypervisor.generation = 2
    partition.hypervisor.tells.extend([Configuration(generation=2, change=change(1))] * 50)
    asked = len(partition.hypervisor.asked)
    partition.advance(5_000)
    assert 4 <= len(partition.hypervisor.asked) - asked <= 6
    assert [report.generation for report in partition.hypervisor.reports] == [1]
    assert partition.credits(CreditType.QOS) == (3, 0)


@pytest.mark.parametrize("wrong", [HcallStatus(code=GOOD), REFUSED], ids=["another answer", "a refusal"])
def test_a_report_that_is_not_noted_is_repeated_and_applied_once(wrong: Message) -> None:
    """The hypervisor has the change under way until it has heard the report."""
    partition = booted(4)
    partition.open_windows(4)
    partition.hypervisor.notes.extend([wrong, wrong])
    partition.retarget(2)
    partition.advance(500)
    assert [report.closed for report in partition.hypervisor.reports] == [(4, 3)]
    partition.advance(3_000)
    assert [report.closed for report in partition.hypervisor.reports] == [(4, 3)] * 3
    assert partition.credits() == (2, 4)
    partition.retarget(3)
    assert partition.hypervisor.reports[-1].generation == 2


NOTHING_TOLD = pytest.mark.parametrize(
    "wrong",
    [Configuration(generation=4, hundredths=70, change=change(5)), Noted(), REFUSED],
    ids=["newer than the newest", "another answer", "a refusal"],
)


def told_nothing_at_boot(*wrong: Message, generation: int = 0) -> Partition:
    """A shared partition of 80 hundredths by the system file, and of 100 by the hypervisor, who says other things."""
    credits = {CreditType.DEFAULT: 4, CreditType.QOS: 0}
    hypervisor = FakeHypervisor(credits, generation=generation, hundredths=100, tells=deque(wrong))
    partition = Partition(hypervisor, system_of(shared=True))
    partition.settle()
    return partition


@NOTHING_TOLD
def test_until_the_hypervisor_tells_the_entitlement_nobody_is_told_another(wrong: Message) -> None:
    """Nothing else would make the partition ask: no change has been made yet, and no beat tells of one."""
    partition = told_nothing_at_boot(wrong)
    number = partition.call(partition.reader, ReadFile(path="/proc/powerpc/lparcfg"))
    assert number not in partition.reader.answers
    partition.advance(1_200)
    assert "partition_entitled_capacity=100\n" in partition.answer(partition.reader, number, FileText).text


@NOTHING_TOLD
def test_the_first_answer_is_asked_for_about_once_a_second(wrong: Message) -> None:
    """Beats, which tell of a generation each time, make it no more."""
    partition = told_nothing_at_boot(*[wrong] * 10, generation=3)
    partition.advance(9_500)
    assert [asked.generation for asked in partition.hypervisor.asked] == [0] * 10
    assert not partition.core.kernel.configuration.knows_base
    partition.advance(2_000)
    assert (len(partition.hypervisor.asked), partition.core.kernel.configuration.generation) == (11, 3)
    partition.open_windows(1)
