"""copy and paste: numbers, repeats, faults and what the kernel makes of them."""

from __future__ import annotations

import errno
import zlib

import pytest

from lpar.client import (
    BusError,
    Csb,
    KernelFailure,
    Lpar,
    PasteArea,
    PasteRefused,
    Request,
)
from protocol import device_messages as device
from protocol.codes import CompletionCode, FaultOutcome, FunctionCode, KernelReason
from protocol.paste_messages import Paste
from tests.client.world import World
from tests.fidelity.rows import fidelity

DATA = b"window credit " * 400
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, 8192)
REPEAT_US = 500_000


@pytest.fixture
def area(lpar: Lpar) -> PasteArea:
    return lpar.open_window().map()


def numbers(world: World) -> list[int]:
    """The numbers of the pastes that were sent, in order."""
    return [envelope.body.number for envelope in world.sent_of(Paste) if isinstance(envelope.body, Paste)]


def faults(world: World) -> int:
    return sum(isinstance(body, device.Fault) for body in world.kernel.executed)


def assert_done(csb: Csb) -> None:
    assert csb.code is CompletionCode.OK
    assert zlib.decompress(csb.target, -15) == DATA


@fidelity(
    "3 paste",
    "CR0 2 and 3 mean accepted, 0 and 1 refused; the low bit is a copy of SO.",
    source="UM p.47",
    differs=(
        "An accepted paste returns a request to wait for, a refused one raises PasteRefused with cr0 0; SO "
        "does not exist."
    ),
)
def test_an_accepted_paste_ends_in_one_csb(area: PasteArea) -> None:
    csb = area.paste(REQUEST).wait()
    assert_done(csb)
    assert (csb.processed_bytes, csb.crc32, csb.adler32) == (len(DATA), zlib.crc32(DATA), zlib.adler32(DATA))
    assert not csb.is_partial
    assert not csb.is_terminated


def test_a_csb_can_be_had_more_than_once(area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    assert pending.wait() == pending.wait()


def test_numbers_rise_with_every_attempt(world: World, area: PasteArea) -> None:
    for _ in range(3):
        assert_done(area.paste(REQUEST).wait())
    assert numbers(world) == [1, 2, 3]


@fidelity(
    "3 paste",
    "Both closed and busy look the same in CR0: the user has to read the credits in sysfs to tell them apart.",
    source="T:api",
    differs=(
        "CR0 is the same; beside it the library says that it was the fault handler that failed the paste, "
        "because it made the call itself."
    ),
)
@fidelity(
    "3 paste",
    "CR0 2 and 3 mean accepted, 0 and 1 refused; the low bit is a copy of SO.",
    source="UM p.47",
    differs=(
        "An accepted paste returns a request to wait for, a refused one raises PasteRefused with cr0 0; SO "
        "does not exist."
    ),
)
def test_a_refused_paste_says_cr0_and_nothing_else(world: World, area: PasteArea) -> None:
    world.nx0.refuse_next = world.nx1.refuse_next = 1
    with pytest.raises(PasteRefused) as caught:
        area.paste(REQUEST)
    assert (caught.value.cr0, caught.value.fault) == (0, None)


def test_a_wait_may_be_tried_again_after_its_deadline(world: World, area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    world.nx0.mute = world.nx1.mute = True
    with pytest.raises(TimeoutError, match="did not complete a request"):
        pending.wait(timeout=1.0)
    world.nx0.mute = world.nx1.mute = False
    assert_done(pending.wait(timeout=1.0))


@fidelity(
    "5 races",
    "Threads of one process on one window: its one window credit takes one request, the other paste is refused.",
    source="UM p.47",
)
def test_a_second_paste_on_a_window_is_refused_until_the_first_has_completed(area: PasteArea) -> None:
    first = area.paste(REQUEST)
    with pytest.raises(PasteRefused):
        area.paste(REQUEST)
    assert_done(first.wait())
    assert_done(area.paste(REQUEST).wait())


def test_a_forgotten_request_does_not_block_its_window(world: World, area: PasteArea) -> None:
    area.paste(REQUEST)
    world.loss = 1.0
    world.pass_time(REPEAT_US)
    world.loss = 0.0
    with pytest.raises(PasteRefused):
        area.paste(REQUEST)
    world.pass_time(10_000)
    assert_done(area.paste(REQUEST).wait())


def test_a_paste_nobody_answers_ends_at_its_deadline(world: World) -> None:
    area = world.lpar(timeout=4.0).open_window().map()
    world.nx0.mute = world.nx1.mute = True
    began_us = world.now_us
    with pytest.raises(TimeoutError, match=r"nx\d at ipc://nx\d did not answer a paste"):
        area.paste(REQUEST)
    assert world.now_us - began_us == 4_000_000
    assert len(numbers(world)) == 8
    assert len(set(numbers(world))) == 1
    world.nx0.mute = world.nx1.mute = False
    assert_done(area.paste(REQUEST).wait())


def test_a_silent_connection_is_left_for_a_new_one(world: World, area: PasteArea) -> None:
    world.nx0.mute = world.nx1.mute = True
    world.later(3_200_000, lambda: setattr(world.nx0, "mute", False))
    world.later(3_200_000, lambda: setattr(world.nx1, "mute", False))
    assert_done(area.paste(REQUEST).wait())
    assert len([endpoint for endpoint in world.dialled if endpoint.startswith("ipc://nx")]) == 2


@fidelity("3 paste", "The instruction that faulted is run again then, and the paste succeeds.", source="A:api")
def test_a_fault_is_taken_to_the_kernel_and_the_paste_run_again(world: World, area: PasteArea) -> None:
    before = area.address
    other = world.nx0 if before is not None and before.unit == "nx1" else world.nx1
    world.kernel.move(other)
    assert area.address == before
    assert_done(area.paste(REQUEST).wait())
    assert area.address == world.kernel.windows[0].address
    assert numbers(world) == [1, 2]
    assert faults(world) == 1


@fidelity(
    "3 paste",
    "A window that the hypervisor has suspended while the kernel still has it active faults at the address that "
    "the kernel puts back, and the paste is tried until the state changes.",
    source="ML:e930071a22",
    differs=(
        "There is no DSISR bit and no feature bit to ignore it; the library waits 1 to 50 ms between its "
        "tries and ends at its deadline."
    ),
)
def test_a_unit_that_is_not_programmed_yet_is_tried_again_with_growing_waits(world: World, area: PasteArea) -> None:
    unit = world.nx0
    world.kernel.on_lost_context = False
    world.kernel.move(unit)
    address = world.kernel.windows[0].address
    world.later(20_000, lambda: unit.program(address))
    began_us = world.now_us
    assert_done(area.paste(REQUEST).wait())
    assert 20_000 < world.now_us - began_us < 40_000
    assert faults(world) == 6
    assert len(set(numbers(world))) == len(numbers(world))


@fidelity(
    "3 paste",
    "A window that the hypervisor has suspended while the kernel still has it active faults at the address that "
    "the kernel puts back, and the paste is tried until the state changes.",
    source="ML:e930071a22",
    differs=(
        "There is no DSISR bit and no feature bit to ignore it; the library waits 1 to 50 ms between its "
        "tries and ends at its deadline."
    ),
)
def test_a_unit_that_is_never_programmed_is_a_timeout(world: World) -> None:
    area = world.lpar(timeout=1.0).open_window().map()
    world.kernel.on_lost_context = False
    world.kernel.move(world.nx0)
    with pytest.raises(TimeoutError):
        area.paste(REQUEST)


@fidelity(
    "3 paste",
    "A paste to a closed window fails with CR0 0 or 1, as if the accelerator were busy; it is never SIGBUS.",
    source="A:api",
)
@fidelity(
    "3 paste",
    "Both closed and busy look the same in CR0: the user has to read the credits in sysfs to tell them apart.",
    source="T:api",
    differs=(
        "CR0 is the same; beside it the library says that it was the fault handler that failed the paste, "
        "because it made the call itself."
    ),
)
def test_a_paste_on_a_closed_window_is_refused_by_its_kernel(world: World, area: PasteArea) -> None:
    world.kernel.suspend()
    with pytest.raises(PasteRefused) as caught:
        area.paste(REQUEST)
    assert (caught.value.cr0, caught.value.fault) == (0, FaultOutcome.PASTE_FAILED)
    assert area.address is None


@fidelity(
    "3 paste",
    "Nothing is mapped again before the next paste: reopening a window leaves its page empty.",
    source="ML:31f8a67d02",
)
def test_an_unbacked_page_faults_without_a_paste_and_comes_back(world: World, area: PasteArea) -> None:
    world.kernel.suspend()
    for _ in range(3):
        with pytest.raises(PasteRefused):
            area.paste(REQUEST)
    assert (len(numbers(world)), faults(world)) == (1, 3)
    world.kernel.resume()
    assert_done(area.paste(REQUEST).wait())
    assert faults(world) == 4


@fidelity("3 paste", "A fault where there is no window is SIGBUS.", source="A:api")
def test_a_paste_where_no_window_is_left_is_a_bus_error(world: World, area: PasteArea) -> None:
    world.kernel.move(world.nx0)
    world.kernel.mappings.clear()
    with pytest.raises(BusError):
        area.paste(REQUEST)


def test_an_unmapped_page_cannot_be_used(area: PasteArea) -> None:
    area.unmap()
    with pytest.raises(ValueError, match="unmapped"):
        area.paste(REQUEST)
    with pytest.raises(ValueError, match="unmapped"):
        area.load()


def test_a_client_on_a_network_that_the_unit_lacks_is_told_so() -> None:
    world = World(network="blue")
    area = world.lpar().open_window().map()
    with pytest.raises(OSError, match="no endpoint on network 'blue'") as caught:
        area.paste(REQUEST)
    assert caught.value.errno == errno.EHOSTUNREACH


def test_pasting_after_the_partition_was_restarted_is_enodev(world: World, area: PasteArea) -> None:
    world.kernel.restart()
    with pytest.raises(KernelFailure) as caught:
        area.paste(REQUEST)
    assert (caught.value.errno, caught.value.reason) == (errno.ENODEV, KernelReason.DEAD)
