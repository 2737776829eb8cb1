"""Translation faults in the kernel: interrupt, H_GET_NX_FAULT, status block (domain.md 1, 3)."""

from __future__ import annotations

import pytest

from protocol.codes import HcallCode
from protocol.device_messages import UpdateCsb
from protocol.hcall_messages import (
    HGetNxFault,
    NxFault,
)
from protocol.paste_messages import CSB_ADDRESS
from protocol.refusals import RefusalCode
from protocol.wire import refuse
from tests.fidelity.rows import fidelity
from tests.lpar.faults import block, ends, fault, fetches
from tests.lpar.hypervisor import INTERRUPT_BASE, Silence
from tests.lpar.partition import FAULTS_FILE, booted


@fidelity(
    "3 faults",
    "The kernel writes the status block itself: code 250, extension 0x40, count 0 and the faulting address.",
    source="T:api",
)
@fidelity(
    "3 faults",
    "The block is written with its valid bit cleared first, and set last.",
    source="T:api",
    differs="The block is one message that arrives whole.",
)
def test_a_fault_is_fetched_and_the_status_block_of_its_process_says_250() -> None:
    partition = booted(2)
    (window,) = partition.open_windows(1)
    other = partition.open_window(partition.process())
    fault(partition, 1, 7, page=3)
    (fetch,) = fetches(partition)
    assert fetch.window_id == 1
    assert fetch.buffer_address % 128 == 0
    assert window.client.blocks == [UpdateCsb(csb_address=CSB_ADDRESS, csb=block(page=3))]
    assert other.client.blocks == []
    assert ends(partition) == {"reported": 1}
    assert partition.core.kernel.is_idle


@fidelity(
    "3 faults",
    "One interrupt is one fault, and each call of H_GET_NX_FAULT fetches one request.",
    source="K:vas.c",
)
def test_two_faults_of_two_windows_are_both_served() -> None:
    partition = booted(2)
    windows = partition.open_windows(2)
    partition.hypervisor.raise_fault(1, 1, csb_address=0x1000)
    partition.hypervisor.raise_fault(2, 1, csb_address=0x2000)
    partition.settle()
    assert [told.csb_address for told in windows[0].client.blocks] == [0x1000, 0x2000]
    assert partition.hypervisor.fetched == [(1, 1), (2, 1)]


@fidelity(
    "3 faults",
    "One interrupt is one fault, and each call of H_GET_NX_FAULT fetches one request.",
    source="K:vas.c",
)
@fidelity(
    "5 races",
    "A fault that comes while the previous one is handled is counted, and handled by the same run.",
    source="K:vas.c",
)
def test_a_fault_that_arrives_while_one_is_handled_is_counted_and_handled_by_the_same_run() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HGetNxFault, Silence.HOLD)
    fault(partition, 1, 1)
    fault(partition, 1, 2, page=1)
    assert len(fetches(partition)) == 1, "one handler of a window at a time"
    assert partition.core.statistics().pending_faults == 2
    assert partition.fault_listing() == [[1, INTERRUPT_BASE + 1, 500, 2, 0]]
    partition.hypervisor.release()
    partition.settle()
    assert partition.hypervisor.fetched == [(1, 1), (1, 2)]
    assert [told.csb for told in window.client.blocks] == [block(), block(page=1)]
    assert partition.core.statistics().pending_faults == 0
    assert partition.fault_listing() == [[1, INTERRUPT_BASE + 1, 500, 0, 2]]


def test_repeated_interrupts_of_one_fault_are_one_fault() -> None:
    partition = booted(1)
    partition.open_windows(1)
    partition.hypervisor.returns(HGetNxFault, Silence.HOLD)
    fault(partition, 1, 1)
    for _repeat in range(5):
        partition.hypervisor.interrupt(1, 1)
    partition.settle()
    assert partition.core.statistics().pending_faults == 1
    partition.hypervisor.release()
    partition.settle()
    partition.hypervisor.interrupt(1, 1)
    partition.settle()
    assert len(fetches(partition)) == 1
    assert ends(partition) == {"reported": 1}


@fidelity(
    "3 faults",
    "If H_GET_NX_FAULT fails the fault is skipped, its window credit does not come back, and nothing can be sent "
    "on the window any more.",
    source="ML:23a3cf6124",
    differs=(
        "The kernel skips and logs it likewise, but the hypervisor repeats an interrupt until its fault is fetched."
    ),
)
def test_a_lost_interrupt_is_made_good_by_its_repeat() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.raise_fault(1, 1, notify=False)
    partition.advance(100)
    assert not window.client.blocks
    partition.hypervisor.interrupt(1, 1)
    partition.settle()
    assert [told.csb for told in window.client.blocks] == [block()]


def test_a_fault_whose_interrupt_was_lost_comes_first_and_the_one_told_of_is_still_fetched() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.raise_fault(1, 1, notify=False)
    fault(partition, 1, 2, page=1)
    assert partition.hypervisor.fetched == [(1, 1), (1, 2)]
    assert len(window.client.blocks) == 2
    assert partition.core.kernel.is_idle


def test_an_interrupt_of_an_unknown_window_is_ignored() -> None:
    partition = booted(1)
    partition.hypervisor.interrupt(77, 1)
    partition.settle()
    assert not fetches(partition)
    assert not partition.log[1:], "only the boot is told"


@fidelity("1 errnos", "H_GET_NX_FAULT is made once for each fault, without a busy loop.", source="K:vas.c")
@fidelity(
    "3 faults",
    "If H_GET_NX_FAULT fails the fault is skipped, its window credit does not come back, and nothing can be sent "
    "on the window any more.",
    source="ML:23a3cf6124",
    differs=(
        "The kernel skips and logs it likewise, but the hypervisor repeats an interrupt until its fault is fetched."
    ),
)
@pytest.mark.parametrize("code", [HcallCode.H_STATE, HcallCode.H_PARAMETER, HcallCode.H_PRIVILEGE, HcallCode.H_BUSY])
def test_a_failed_fetch_is_logged_and_skipped(code: HcallCode) -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HGetNxFault, code)
    fault(partition, 1, 9)
    (facts,) = partition.logged("nx_fault_not_fetched")
    assert (facts["window"], facts["number"], facts["why"]) == (1, 9, f"H_GET_NX_FAULT: {code.name}")
    assert facts["epoch"] == 1
    assert len(fetches(partition)) == 1, "not even a busy code is looped on"
    assert partition.core.kernel.is_idle
    assert not window.client.blocks
    partition.hypervisor.interrupt(1, 9)
    partition.settle()
    assert len(window.client.blocks) == 1
    assert ends(partition) == {"not_fetched": 1, "reported": 1}


@fidelity(
    "5 races",
    "A fault that comes while the previous one is handled is counted, and handled by the same run.",
    source="K:vas.c",
)
def test_a_failed_fetch_does_not_keep_the_next_fault_from_being_fetched() -> None:
    partition = booted(1)
    partition.open_windows(1)
    partition.hypervisor.returns(HGetNxFault, Silence.HOLD)
    fault(partition, 1, 1)
    fault(partition, 1, 2)
    partition.hypervisor.release(HcallCode.H_HARDWARE)
    partition.settle()
    assert partition.hypervisor.fetched == [(1, 1), (1, 2)]
    assert ends(partition) == {"not_fetched": 1, "reported": 2}
    assert partition.core.kernel.is_idle


def test_answers_that_are_no_fault_of_this_window_are_skipped() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    good = HcallCode.H_SUCCESS
    partition.hypervisor.returns(HGetNxFault, NxFault(code=good, window_id=5, number=1, csb_address=1))
    fault(partition, 1, 1)
    assert not window.client.blocks
    assert ends(partition) == {"not_fetched": 1}
    assert partition.core.kernel.is_idle


def test_a_fault_given_twice_is_reported_once_and_the_handler_ends() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    fault(partition, 1, 1)
    again = NxFault(code=HcallCode.H_SUCCESS, window_id=1, number=1, csb_address=CSB_ADDRESS)
    partition.hypervisor.returns(HGetNxFault, again)
    partition.hypervisor.interrupt(1, 2)
    partition.settle()
    assert len(window.client.blocks) == 1
    assert partition.core.kernel.is_idle


def test_a_storm_of_interrupts_is_bounded_and_ends() -> None:
    partition = booted(1)
    partition.open_windows(1)
    partition.hypervisor.returns(HGetNxFault, Silence.HOLD)
    for number in range(1, 10_001):
        partition.hypervisor.interrupt(1, number)
    partition.settle()
    assert partition.core.statistics().pending_faults == 64
    partition.hypervisor.release()
    partition.settle()
    assert partition.core.statistics().pending_faults == 0
    assert partition.core.kernel.is_idle


def test_a_status_block_is_repeated_until_the_process_takes_it() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    window.client.running = False
    partition.hypervisor.raise_fault(1, 1)
    partition.settle()
    window.client.running = True
    partition.advance(10_000)
    assert [told.csb for told in window.client.blocks] == [block()]


def test_a_process_that_takes_no_status_blocks_is_told_of_no_more_beyond_a_limit() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    window.client.answers_kernel = False
    for number in range(1, 1_026):
        fault(partition, 1, number)
    assert ends(partition) == {"reported": 1_024, "dropped": 1}
    (facts,) = partition.logged("csb_update_dropped")
    assert facts["window"] == 1
    window.client.answers_kernel = True
    partition.advance(5_000)
    assert len(window.client.blocks) == 1_024
    fault(partition, 1, 2_000)
    assert len(window.client.blocks) == 1_025


def test_a_process_that_refuses_a_status_block_keeps_its_windows() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    window.client.answers_kernel = False
    fault(partition, 1, 1)
    (event,) = window.client.waiting
    window.client.waiting.clear()
    window.client.dialer.answer(event.session, event.number, refuse(RefusalCode.UNKNOWN_TYPE, "a reply", "update_csb"))
    partition.settle()
    assert len(partition.logged("csb_update_refused")) == 1
    assert partition.with_status("active") == [1]


def test_the_fault_listing_has_a_header() -> None:
    assert booted(1).read(FAULTS_FILE) == "window_id interrupt pid pending fetched\n"
