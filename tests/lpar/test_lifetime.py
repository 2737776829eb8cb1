"""How long a window lives: until the last of descriptor and mappings goes, or its process (domain.md 3 and 5.4)."""

from __future__ import annotations

from protocol.codes import FaultOutcome, HcallCode, Instruction
from protocol.device_messages import CloseDescriptor, Done, Fault, FaultHandled, TxWinOpen, Unmap
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import Silence
from tests.lpar.partition import booted

LEASE_AND_MARGIN_MS = 5_000 + 100 + 2_000


@fidelity(
    "3 lifetime",
    "A window ends with the last reference to its open file: of descriptor and mappings, whichever goes last.",
    source="T:api",
)
@fidelity(
    "5 close",
    "An active window is deallocated, then its interrupt is freed, and it leaves the list and the counts.",
    source="K:vas.c",
)
def test_close_without_a_mapping_deallocates_and_returns_the_credit() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HDeallocateVasWindow, Silence.HOLD)
    number = partition.call(window.client, CloseDescriptor(descriptor=window.descriptor))
    assert partition.hypervisor.made[-1] == HDeallocateVasWindow(window_id=1)
    assert partition.interrupt_lines() == [1], "until the hypervisor has deallocated the window"
    partition.hypervisor.release()
    partition.settle()
    partition.answer(window.client, number, Done)
    assert partition.interrupt_lines() == []
    assert partition.credits() == (1, 0)
    assert partition.listing() == []


@fidelity("5 close", "close returns when the hypervisor has drained the window.", source="K:vas.c")
def test_close_returns_only_when_the_hypervisor_has_drained_the_window() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HDeallocateVasWindow, *[HcallCode.H_LONG_BUSY_ORDER_10_MSEC] * 3)
    number = partition.call(window.client, CloseDescriptor(descriptor=window.descriptor))
    assert number not in window.client.answers
    assert partition.credits() == (1, 1)
    partition.advance(40)
    partition.answer(window.client, number, Done)


@fidelity(
    "3 lifetime",
    "A window ends with the last reference to its open file: of descriptor and mappings, whichever goes last.",
    source="T:api",
)
@fidelity(
    "3 lifetime",
    "Closing the descriptor after mmap leaves the window in use, and it can be pasted to.",
    source="T:self gzip_vas.c",
)
def test_a_mapping_keeps_the_window_after_close() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    mapped = partition.mmap(window)
    partition.close(window)
    assert partition.credits() == (1, 1)
    assert partition.listing()[0][5] == "-"
    request = Fault(mapping=mapped.mapping, instruction=Instruction.PASTE)
    assert partition.ask(window.client, request, FaultHandled).outcome is FaultOutcome.REMAPPED
    partition.ask(window.client, Unmap(mapping=mapped.mapping), Done)
    assert partition.credits() == (1, 0)
    assert not partition.hypervisor.windows


@fidelity(
    "3 lifetime",
    "A window ends with the last reference to its open file: of descriptor and mappings, whichever goes last.",
    source="T:api",
)
def test_every_mapping_holds_a_reference() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    mappings = [partition.mmap(window).mapping for _ in range(3)]
    partition.close(window)
    for mapping in mappings[:2]:
        partition.unmap(window.client, mapping)
    assert partition.credits() == (1, 1)
    partition.unmap(window.client, mappings[2])
    assert partition.credits() == (1, 0)


@fidelity(
    "5 close",
    "A window that is closed already is only dropped, without an hcall, and lowers the number of closed ones.",
    source="K:vas.c",
)
def test_a_closed_windows_close_makes_no_hcall() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.retarget(0)
    partition.hypervisor.made.clear()
    partition.close(window)
    assert not partition.hypervisor.made
    assert partition.credits() == (0, 0)
    assert partition.pool().nr_close == 0


@fidelity("5 close", "Closing an active window while others are closed reopens none of them.", source="K:vas.c")
def test_closing_an_active_window_reopens_no_other() -> None:
    partition = booted(3)
    windows = partition.open_windows(3)
    partition.retarget(2)
    partition.close(windows[0])
    partition.advance(1_000)
    assert partition.with_status("no_cred_close") == [3]
    assert partition.with_status("active") == [2]


@fidelity(
    "3 lifetime",
    "If the hypervisor does not deallocate, release returns early and the window stays, counted for ever.",
    source="T:api",
)
@fidelity("5 close", "If the deallocation fails the window stays in the list, counted and active.", source="K:vas.c")
def test_a_failed_deallocation_leaks_the_window_as_linux_does() -> None:
    partition = booted(2)
    (window,) = partition.open_windows(1)
    partition.hypervisor.returns(HDeallocateVasWindow, HcallCode.H_STATE)
    partition.ask(window.client, CloseDescriptor(descriptor=window.descriptor), Done)
    assert partition.credits() == (2, 1)
    assert partition.with_status("active") == [1]
    assert partition.core.statistics().leaked == 1
    assert "window_leaked" in [line.event for line in partition.log]


def test_a_freed_descriptor_is_the_next_one_given() -> None:
    partition = booted(1)
    client = partition.process()
    first, second, third = (partition.device(client) for _ in range(3))
    partition.ask(client, CloseDescriptor(descriptor=second), Done)
    partition.ask(client, CloseDescriptor(descriptor=first), Done)
    assert [partition.device(client) for _ in range(3)] == [first, second, third + 1]


@fidelity(
    "3 lifetime",
    "A killed process is gone at once.",
    source="T:api",
    differs="A process is known by its connection: it has exited when that has been gone for `client_lease_ms`.",
)
def test_a_dead_process_loses_its_windows_after_its_lease_in_descriptor_order() -> None:
    partition = booted(5)
    windows = partition.open_windows(4)
    survivor = partition.open_window(partition.process(pid=7))
    partition.mmap(windows[2])
    partition.hypervisor.made.clear()
    partition.kill(windows[0].client)
    partition.advance(4_000)
    assert partition.credits() == (5, 5)
    partition.advance(LEASE_AND_MARGIN_MS - 4_000)
    assert partition.hypervisor.made == [HDeallocateVasWindow(window_id=number) for number in (1, 2, 3, 4)]
    assert partition.credits() == (5, 1)
    assert list(partition.hypervisor.windows) == [survivor.window_id]


@fidelity("3 lifetime", "The exit of a process releases its windows.", source="T:api")
def test_a_process_that_says_goodbye_loses_its_windows_at_once() -> None:
    partition = booted(3)
    windows = partition.open_windows(2)
    mapped = partition.mmap(windows[0])
    partition.close(windows[0])
    assert mapped.mapping == 1
    windows[0].client.dialer.say_bye()
    partition.settle()
    assert partition.credits() == (3, 0)
    assert not partition.hypervisor.windows


@fidelity("3 lifetime", "The exit of a process releases its windows.", source="T:api")
def test_closed_windows_of_a_dead_process_are_dropped_without_an_hcall() -> None:
    partition = booted(2)
    windows = partition.open_windows(2)
    partition.retarget(1)
    partition.hypervisor.made.clear()
    windows[0].client.dialer.say_bye()
    partition.settle()
    assert partition.hypervisor.made == [HDeallocateVasWindow(window_id=1)]
    assert partition.credits() == (1, 0)
    assert partition.pool().nr_close == 0


def test_an_open_outlives_its_process_and_the_window_is_closed_then() -> None:
    partition = booted(2)
    client = partition.process()
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    partition.call(client, TxWinOpen(descriptor=partition.device(client), vas_id=0))
    client.dialer.say_bye()
    partition.settle()
    assert partition.credits() == (2, 1)
    partition.hypervisor.release()
    partition.settle()
    assert partition.credits() == (2, 0)
    assert not partition.hypervisor.windows
    assert partition.core.statistics().opens == 1


def test_a_descriptor_closed_during_its_ioctl_closes_the_window_afterwards() -> None:
    partition = booted(2)
    client = partition.process()
    descriptor = partition.device(client)
    partition.hypervisor.returns(HAllocateVasWindow, Silence.HOLD)
    partition.call(client, TxWinOpen(descriptor=descriptor, vas_id=0))
    partition.ask(client, CloseDescriptor(descriptor=descriptor), Done)
    assert partition.device(client) == descriptor
    partition.hypervisor.release()
    partition.settle()
    assert partition.credits() == (2, 0)
    assert not partition.hypervisor.windows


def test_a_restarted_process_of_the_same_name_starts_with_nothing() -> None:
    partition = booted(2)
    (window,) = partition.open_windows(1)
    partition.kill(window.client)
    partition.advance(1_500)
    window.client.running = True
    window.client.dialer.start_over(b"another-incarnat", partition.now_us)
    partition.advance(1_000)
    assert partition.credits() == (2, 0)
    assert partition.device(window.client) == 3
