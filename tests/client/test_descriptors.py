"""open, ioctl, mmap and close, with the errnos of vas-api.c."""

from __future__ import annotations

import errno

import pytest

from lpar.client import BusError, FileForbidden, KernelFailure, Lpar, PeerError, WindowExists
from protocol import device_messages as device
from protocol.codes import HcallCode, KernelReason
from tests.client.kernel import failure
from tests.client.world import World
from tests.fidelity.rows import fidelity


def test_a_window_is_opened_on_a_descriptor(world: World, lpar: Lpar) -> None:
    file = lpar.open_device()
    window_id = file.tx_win_open(flags=1)
    assert [window.address.window_id for window in world.kernel.windows] == [window_id]
    assert world.kernel.windows[0].flags == 1


def test_the_thread_that_opens_is_named_to_the_kernel(world: World, lpar: Lpar) -> None:
    lpar.open_device().tx_win_open()
    opened = [body for body in world.kernel.executed if isinstance(body, device.TxWinOpen)]
    assert opened[0].thread_id > 0


@fidelity(
    "3 ioctl",
    "A descriptor that already has a window is EEXIST, whatever else is wrong with the attributes.",
    source="T:api",
)
def test_a_second_window_on_a_descriptor_is_eexist(lpar: Lpar) -> None:
    file = lpar.open_device()
    file.tx_win_open()
    with pytest.raises(FileExistsError) as caught:
        file.tx_win_open()
    assert isinstance(caught.value, WindowExists)


@fidelity(
    "1 errnos",
    "Which code it was stands in one line of the kernel's log.",
    source="K:vas.c",
    differs=(
        "The code comes back beside the errno, and each return of an hcall is counted; a refused open writes "
        "no log line."
    ),
)
@fidelity("3 ioctl", "A failing H_ALLOCATE or H_MODIFY is EIO.", source="K:vas.c")
@pytest.mark.parametrize(
    ("reason", "hcall", "number"),
    [
        (KernelReason.NO_CREDIT, None, errno.EINVAL),
        (KernelReason.CLOSED_WINDOWS, None, errno.EBUSY),
        (KernelReason.MIGRATION, None, errno.EBUSY),
        (KernelReason.HCALL_FAILED, HcallCode.H_RESOURCE, errno.EIO),
        (KernelReason.NOT_SUPPORTED, HcallCode.H_COP_HW, errno.ENOTSUP),
    ],
)
def test_a_refused_open_carries_errno_reason_and_hcall(
    world: World, lpar: Lpar, reason: KernelReason, hcall: HcallCode | None, number: int
) -> None:
    world.kernel.failures.append(("tx_win_open", failure(reason, hcall)))
    with pytest.raises(OSError, match=str(number)) as caught:
        lpar.open_device().tx_win_open()
    assert isinstance(caught.value, KernelFailure)
    assert (caught.value.errno, caught.value.reason, caught.value.hcall) == (number, reason, hcall)


@fidelity("3 ioctl", "A version other than 1 is EINVAL.", source="T:api")
def test_a_wrong_version_is_einval(lpar: Lpar) -> None:
    with pytest.raises(KernelFailure) as caught:
        lpar.open_device().tx_win_open(version=2)
    assert (caught.value.errno, caught.value.reason) == (errno.EINVAL, KernelReason.VERSION)


@fidelity("3 mmap", "A descriptor without a window is EINVAL.", source="A:api")
@fidelity("3 mmap", "A window that is not active is EACCES.", source="A:api")
def test_mmap_before_open_is_einval_and_of_a_closed_window_eacces(world: World, lpar: Lpar) -> None:
    file = lpar.open_device()
    with pytest.raises(KernelFailure) as caught:
        file.mmap()
    assert caught.value.reason is KernelReason.NO_WINDOW
    file.tx_win_open()
    world.kernel.suspend()
    with pytest.raises(FileForbidden):
        file.mmap()
    with pytest.raises(KernelFailure, match="longer than one page"):
        file.mmap(length=8192)


@fidelity(
    "3 lifetime",
    "Closing the descriptor after mmap leaves the window in use, and it can be pasted to.",
    source="T:self gzip_vas.c",
)
def test_closing_a_descriptor_leaves_the_mapped_window_in_use(world: World, lpar: Lpar) -> None:
    file = lpar.open_device()
    file.tx_win_open()
    area = file.mmap()
    file.close()
    file.close()
    assert len(world.kernel.windows) == 1
    area.load()
    area.unmap()
    area.unmap()
    assert world.kernel.windows == []


def test_a_closed_descriptor_is_ebadf(lpar: Lpar) -> None:
    file = lpar.open_device()
    file.close()
    with pytest.raises(KernelFailure) as caught:
        file.tx_win_open()
    assert caught.value.errno == errno.EBADF


@fidelity("3 paste", "Another instruction than a paste on the page of a closed window is SIGBUS.", source="A:api")
def test_loading_from_a_closed_window_is_a_bus_error(world: World, lpar: Lpar) -> None:
    window = lpar.open_window()
    area = window.map()
    area.load()
    world.kernel.suspend()
    with pytest.raises(BusError):
        area.load()
    world.kernel.resume()
    area.load()


def test_a_window_that_cannot_be_opened_leaves_no_descriptor(world: World, lpar: Lpar) -> None:
    world.kernel.total = 0
    with pytest.raises(KernelFailure):
        lpar.open_window()
    assert world.kernel.descriptors == {}


@fidelity("3 ioctl", "Bit 0 of the flags asks for a QoS credit.", source="T:uapi")
def test_a_window_is_opened_with_the_qos_flag_and_closed_once(world: World, lpar: Lpar) -> None:
    with lpar.open_window(qos=True, vas_id=2) as window:
        assert window.area is None
        assert window.map().address == world.kernel.windows[0].address
        assert world.kernel.windows[0].flags == 1
        opened = [body for body in world.kernel.executed if isinstance(body, device.TxWinOpen)]
        assert opened[0].vas_id == 2
    window.close()
    assert world.kernel.windows == []
    with pytest.raises(ValueError, match="closed"):
        window.map()


def test_a_call_without_an_answer_ends_at_its_deadline_and_names_it(world: World) -> None:
    lpar = world.lpar(timeout=2.5)
    world.kernel.mute = True
    began_us = world.now_us
    with pytest.raises(TimeoutError, match=r"ipc://kernel did not answer open_device"):
        lpar.open_device()
    assert world.now_us - began_us == 2_500_000


def test_what_was_opened_too_late_is_closed_again(world: World) -> None:
    lpar = world.lpar(timeout=0.1)
    world.kernel.delay["open_device"] = 200_000
    with pytest.raises(TimeoutError):
        lpar.open_device()
    world.pass_time(1_000_000)
    assert world.kernel.descriptors == {}


def test_what_was_mapped_too_late_is_unmapped_again(world: World) -> None:
    lpar = world.lpar(timeout=0.1)
    file = lpar.open_device()
    file.tx_win_open()
    world.kernel.delay["mmap"] = 200_000
    with pytest.raises(TimeoutError):
        file.mmap()
    world.pass_time(1_000_000)
    assert world.kernel.mappings == {}


def test_an_answer_of_the_wrong_kind_is_an_error_of_the_peer(world: World, lpar: Lpar) -> None:
    world.kernel.wrong_answers.append(device.Done())
    with pytest.raises(PeerError, match="answered open_device with done"):
        lpar.open_device()


@pytest.mark.parametrize("value", ["abc", 1 << 70, True, None])
def test_an_attribute_that_is_no_number_of_64_bits_is_named(lpar: Lpar, value: int) -> None:
    with lpar.open_device() as device_file, pytest.raises(ValueError, match="vas_id is a whole number of 64 bits, not"):
        device_file.tx_win_open(vas_id=value)
