"""Mapping and faults: the mmap checks in their order and all branches of the fault handler (domain.md 3)."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import FaultOutcome, Instruction, KernelReason
from protocol.device_messages import CloseDescriptor, Done, Fault, FaultHandled, Mapped, Mmap, Unmap
from tests.fidelity.rows import fidelity
from tests.lpar.hypervisor import paste_address
from tests.lpar.partition import Partition, booted


def fault(partition: Partition, mapping: int, instruction: Instruction = Instruction.PASTE) -> FaultHandled:
    client = partition.clients[0]
    return partition.ask(client, Fault(mapping=mapping, instruction=instruction), FaultHandled)


@fidelity(
    "3 mmap",
    "mmap maps the paste address that the hypervisor gave; up to one page may be asked for.",
    source="A:api",
)
def test_mmap_gives_the_hypervisors_paste_address() -> None:
    partition = booted(1)
    mapped = partition.mmap(partition.open_windows(1)[0])
    assert mapped == Mapped(mapping=1, address=paste_address(1))


@fidelity(
    "3 mmap",
    "mmap maps the paste address that the hypervisor gave; up to one page may be asked for.",
    source="A:api",
)
@pytest.mark.parametrize("length_bytes", [1, 4096])
def test_up_to_one_page_can_be_mapped(length_bytes: int) -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.ask(window.client, Mmap(descriptor=window.descriptor, length_bytes=length_bytes), Mapped)


@fidelity("3 mmap", "The first check is the length: more than one page is EINVAL.", source="A:api")
@pytest.mark.parametrize("length_bytes", [4097, 0, -1, 1 << 40])
def test_a_wrong_length_is_einval_even_before_the_window_is_looked_for(length_bytes: int) -> None:
    partition = booted(1)
    client = partition.process()
    request = Mmap(descriptor=partition.device(client), length_bytes=length_bytes, offset_bytes=1)
    assert partition.fails(client, request, KernelReason.LENGTH).errno == errno.EINVAL


@fidelity("3 mmap", "The second check is the offset: anything but 0 is EINVAL.", source="ML:f452db3bec")
def test_an_offset_is_einval_even_before_the_window_is_looked_for() -> None:
    partition = booted(1)
    client = partition.process()
    request = Mmap(descriptor=partition.device(client), offset_bytes=4096)
    assert partition.fails(client, request, KernelReason.OFFSET).errno == errno.EINVAL


@fidelity("3 mmap", "A descriptor without a window is EINVAL.", source="A:api")
def test_a_descriptor_without_a_window_is_einval() -> None:
    partition = booted(1)
    client = partition.process()
    failure = partition.fails(client, Mmap(descriptor=partition.device(client)), KernelReason.NO_WINDOW)
    assert failure.errno == errno.EINVAL


@fidelity("3 mmap", "A window that is not active is EACCES.", source="A:api")
def test_an_inactive_window_is_eacces() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.retarget(0)
    failure = partition.fails(window.client, Mmap(descriptor=window.descriptor), KernelReason.INACTIVE)
    assert failure.errno == errno.EACCES


@fidelity("3 mmap", "The first check is the length: more than one page is EINVAL.", source="A:api")
@fidelity("3 mmap", "The second check is the offset: anything but 0 is EINVAL.", source="ML:f452db3bec")
@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Mmap(descriptor=3, length_bytes=4097, offset_bytes=4096), KernelReason.LENGTH),
        (Mmap(descriptor=3, offset_bytes=4096), KernelReason.OFFSET),
        (Mmap(descriptor=3), KernelReason.INACTIVE),
    ],
)
def test_length_and_offset_are_looked_at_before_the_windows_state(request_: Mmap, reason: KernelReason) -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.retarget(0)
    partition.fails(window.client, request_, reason)


@fidelity("3 mmap", "The last check is the paste address: none is EINVAL.", source="A:api")
def test_a_window_without_a_paste_address_cannot_be_mapped_and_its_state_is_looked_at_first() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    mapped = partition.mmap(window)
    partition.window(1).paste_address = None
    failure = partition.fails(window.client, Mmap(descriptor=window.descriptor), KernelReason.NO_WINDOW)
    assert failure.errno == errno.EINVAL
    assert fault(partition, mapped.mapping).outcome is FaultOutcome.PASTE_FAILED
    partition.retarget(0)
    partition.fails(window.client, Mmap(descriptor=window.descriptor), KernelReason.INACTIVE)


def test_an_unknown_descriptor_or_mapping_is_ebadf() -> None:
    partition = booted(1)
    client = partition.process()
    assert partition.fails(client, Mmap(descriptor=9), KernelReason.BAD_DESCRIPTOR).errno == errno.EBADF
    partition.fails(client, Unmap(mapping=9), KernelReason.BAD_DESCRIPTOR)
    partition.fails(client, CloseDescriptor(descriptor=9), KernelReason.BAD_DESCRIPTOR)


def test_a_process_reaches_its_limit_of_mappings() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    partition.core.kernel.calls.descriptor_limit = 2
    partition.mmap(window)
    partition.mmap(window)
    partition.fails(window.client, Mmap(descriptor=window.descriptor), KernelReason.LIMIT)


@fidelity("3 paste", "A fault where there is no window is SIGBUS.", source="A:api")
@pytest.mark.parametrize("instruction", list(Instruction))
def test_a_mapping_that_does_not_exist_is_sigbus(instruction: Instruction) -> None:
    partition = booted(1)
    partition.open_windows(1)
    assert fault(partition, 1, instruction) == FaultHandled(outcome=FaultOutcome.SIGBUS)


@fidelity(
    "3 mmap",
    "A second mmap is no error: it silently replaces the mapping that the window remembers.",
    source="A:api",
)
@fidelity("3 paste", "A fault in another mapping than the one remembered at mmap is SIGBUS.", source="A:api")
@pytest.mark.parametrize("instruction", list(Instruction))
def test_a_second_mmap_replaces_the_first_whose_faults_are_sigbus(instruction: Instruction) -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    first, second = partition.mmap(window), partition.mmap(window)
    assert fault(partition, first.mapping, instruction).outcome is FaultOutcome.SIGBUS
    assert fault(partition, second.mapping, instruction).outcome is FaultOutcome.REMAPPED


@fidelity(
    "3 paste",
    "A fault of an active window puts its present paste address behind the same user address.",
    source="A:api",
)
@pytest.mark.parametrize("instruction", list(Instruction))
def test_an_active_window_is_mapped_at_its_present_address(instruction: Instruction) -> None:
    partition = booted(1)
    mapped = partition.mmap(partition.open_windows(1)[0])
    expected = FaultHandled(outcome=FaultOutcome.REMAPPED, address=paste_address(1))
    assert fault(partition, mapped.mapping, instruction) == expected


@fidelity(
    "3 paste",
    "A paste to a closed window fails with CR0 0 or 1, as if the accelerator were busy; it is never SIGBUS.",
    source="A:api",
)
@fidelity("3 paste", "Another instruction than a paste on the page of a closed window is SIGBUS.", source="A:api")
def test_a_paste_to_a_closed_window_fails_and_a_load_is_sigbus() -> None:
    partition = booted(1)
    mapped = partition.mmap(partition.open_windows(1)[0])
    partition.retarget(0)
    assert fault(partition, mapped.mapping) == FaultHandled(outcome=FaultOutcome.PASTE_FAILED)
    assert fault(partition, mapped.mapping, Instruction.LOAD) == FaultHandled(outcome=FaultOutcome.SIGBUS)


@fidelity(
    "3 paste",
    "A fault of an active window puts its present paste address behind the same user address.",
    source="A:api",
)
@fidelity(
    "3 paste",
    "Nothing is mapped again before the next paste: reopening a window leaves its page empty.",
    source="ML:31f8a67d02",
)
def test_a_reopened_window_is_mapped_by_its_next_fault_not_before() -> None:
    partition = booted(1)
    mapped = partition.mmap(partition.open_windows(1)[0])
    partition.retarget(0)
    partition.retarget(1)
    kept = partition.window(1).mapping
    assert kept is not None
    assert not kept.backed
    expected = FaultHandled(outcome=FaultOutcome.REMAPPED, address=paste_address(2))
    assert fault(partition, mapped.mapping) == expected
    assert kept.backed


@fidelity("3 paste", "During a migration a paste fails like on a busy accelerator.", source="K:vas.c")
def test_during_a_migration_a_paste_fails_as_if_the_accelerator_were_busy() -> None:
    partition = booted(1)
    mapped = partition.mmap(partition.open_windows(1)[0])
    partition.core.suspend(partition.now_us)
    partition.settle()
    assert fault(partition, mapped.mapping).outcome is FaultOutcome.PASTE_FAILED
    partition.core.resume(partition.now_us)
    partition.settle()
    assert fault(partition, mapped.mapping).outcome is FaultOutcome.REMAPPED


@fidelity("3 mmap", "munmap makes the window forget the mapping, if it is the one it remembers.", source="A:api")
def test_after_munmap_a_fault_there_is_sigbus_and_a_new_mmap_works() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    first = partition.mmap(window)
    partition.ask(window.client, Unmap(mapping=first.mapping), Done)
    assert partition.window(1).mapping is None
    assert fault(partition, first.mapping).outcome is FaultOutcome.SIGBUS
    second = partition.mmap(window)
    assert second.mapping != first.mapping
    assert fault(partition, second.mapping).outcome is FaultOutcome.REMAPPED


@fidelity("3 mmap", "munmap makes the window forget the mapping, if it is the one it remembers.", source="A:api")
def test_unmapping_the_replaced_mapping_leaves_the_remembered_one() -> None:
    partition = booted(1)
    (window,) = partition.open_windows(1)
    first, second = partition.mmap(window), partition.mmap(window)
    partition.unmap(window.client, first.mapping)
    assert fault(partition, second.mapping).outcome is FaultOutcome.REMAPPED


@fidelity("3 paste", "A fault in another mapping than the one remembered at mmap is SIGBUS.", source="A:api")
def test_another_process_cannot_fault_on_a_mapping() -> None:
    partition = booted(1)
    mapped = partition.mmap(partition.open_windows(1)[0])
    stranger = partition.process()
    request = Fault(mapping=mapped.mapping, instruction=Instruction.PASTE)
    assert partition.ask(stranger, request, FaultHandled).outcome is FaultOutcome.SIGBUS
