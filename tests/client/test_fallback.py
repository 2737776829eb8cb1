"""Why software does the work, and how the accelerator is found again."""

from __future__ import annotations

import gzip
import zlib
from random import Random

import pytest

from lpar.client import KernelFailure, Lpar, NxError, NxGzip, PasteRefused
from protocol import device_messages as device
from protocol.codes import FallbackReason, HcallCode, KernelReason
from protocol.paste_messages import Paste
from tests.client.kernel import failure
from tests.client.test_compress import PART, TEXT, limit_to
from tests.client.world import World

PARTS = TEXT[: 3 * PART]


def fallback(nx: NxGzip) -> dict[FallbackReason, int]:
    """The reasons that have bytes."""
    return {reason: count for reason, count in nx.statistics().compress.fallback.items() if count}


def opens(world: World) -> int:
    return sum(isinstance(body, device.TxWinOpen) for body in world.kernel.executed)


def faults(world: World) -> int:
    return sum(isinstance(body, device.Fault) for body in world.kernel.executed)


@pytest.fixture(autouse=True)
def small_parts(world: World) -> None:
    limit_to(world, PART)


def test_software_mode_never_touches_the_partition(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar, "software")
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert fallback(nx) == {FallbackReason.MODE: len(PARTS)}
    assert opens(world) == 0


@pytest.mark.parametrize(
    ("reason", "hcall"),
    [
        (KernelReason.NO_CREDIT, None),
        (KernelReason.CLOSED_WINDOWS, None),
        (KernelReason.HCALL_FAILED, HcallCode.H_RESOURCE),
    ],
)
def test_a_refused_open_is_tried_again_later_but_not_for_every_part(
    world: World, lpar: Lpar, reason: KernelReason, hcall: HcallCode | None
) -> None:
    nx = NxGzip(lpar)
    world.kernel.failures.append(("tx_win_open", failure(reason, hcall)))
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert fallback(nx) == {FallbackReason.OPEN_REFUSED: len(PARTS)}
    assert opens(world) == 1
    world.pass_time(100_000)
    nx.compress(PARTS)
    picture = nx.statistics()
    assert (picture.compress.nx_bytes, picture.opens, picture.open_refusals) == (len(PARTS), 1, 1)


def test_a_suspended_window_is_kept_and_tried_again_with_each_part(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar)
    nx.compress(PARTS)
    world.kernel.suspend()
    world.sent.clear()
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert fallback(nx) == {FallbackReason.WINDOW_SUSPENDED: len(PARTS)}
    assert nx.statistics().suspended
    assert (len(world.sent_of(Paste)), faults(world)) == (1, 3)
    world.kernel.resume()
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    picture = nx.statistics()
    assert (picture.suspensions, picture.resumptions, picture.remaps, picture.opens) == (1, 1, 1, 1)
    assert picture.compress.nx_bytes == 2 * len(PARTS)
    assert not picture.suspended


def test_a_window_that_was_closed_before_it_was_mapped_counts_as_suspended(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar)
    world.kernel.failures.append(("mmap", failure(KernelReason.INACTIVE)))
    nx.compress(PARTS)
    assert fallback(nx) == {FallbackReason.WINDOW_SUSPENDED: PART}
    assert nx.statistics().resumptions == 1
    assert opens(world) == 1


def test_a_stream_goes_on_in_software_in_its_middle(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar)

    def suspend(_key: str, _envelope: object) -> None:
        if world.nx0.executed + world.nx1.executed == 2:
            world.before_delivery = lambda _key, _envelope: None
            world.kernel.suspend()
            world.later(1_000, world.kernel.resume)

    world.before_delivery = suspend
    output = nx.compress(TEXT, "zlib")
    assert zlib.decompress(output) == TEXT
    picture = nx.statistics().compress
    assert 0 < picture.fallback[FallbackReason.WINDOW_SUSPENDED] < len(TEXT)
    assert picture.bytes_in == len(TEXT)
    assert len(output) < len(TEXT) // 3


def test_a_busy_accelerator_is_waited_for_only_so_long(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar, patience=0.02)
    world.nx0.refuse_next = world.nx1.refuse_next = 1 << 30
    began_us = world.now_us
    nx.compress(TEXT[:PART])
    assert 15_000 < world.now_us - began_us < 25_000
    assert fallback(nx) == {FallbackReason.PASTE_BUSY: PART}
    world.nx0.refuse_next = world.nx1.refuse_next = 5
    nx.compress(TEXT[:PART])
    assert nx.statistics().compress.nx_bytes == PART


def test_a_dead_unit_costs_one_timeout_and_is_then_left_alone_for_a_while(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar, timeout=2.0)
    world.nx0.mute = world.nx1.mute = True
    began_us = world.now_us
    assert gzip.decompress(nx.compress(TEXT)) == TEXT
    assert 2_000_000 < world.now_us - began_us < 2_100_000
    assert fallback(nx) == {FallbackReason.TIMEOUT: len(TEXT)}
    assert nx.statistics().timeouts == 1
    world.pass_time(1_000_000)
    nx.compress(PARTS)
    assert nx.statistics().timeouts == 2
    world.pass_time(1_000_000)
    nx.compress(PARTS)
    assert nx.statistics().timeouts == 2, "the rest after a second failure is longer"
    world.nx0.mute = world.nx1.mute = False
    world.pass_time(1_000_000)
    nx.compress(PARTS)
    assert nx.statistics().compress.nx_bytes == len(PARTS)


def test_a_kernel_that_does_not_answer_is_a_timeout_too(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar, timeout=0.5)
    nx.compress(PARTS)
    world.kernel.suspend()
    world.kernel.mute = True
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert fallback(nx) == {FallbackReason.TIMEOUT: len(PARTS)}


def test_a_restarted_partition_means_software_until_the_program_reconnects(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar)
    nx.compress(PARTS)
    world.kernel.restart()
    assert gzip.decompress(nx.compress(PARTS)) == PARTS
    assert fallback(nx) == {FallbackReason.SESSION_DEAD: len(PARTS)}
    lpar.reconnect()
    nx.compress(PARTS)
    assert nx.statistics().compress.nx_bytes == 2 * len(PARTS)


def test_a_window_that_vanished_is_replaced(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar)
    nx.compress(PARTS)
    world.kernel.move(world.nx0)
    world.kernel.mappings.clear()
    nx.compress(PARTS)
    assert fallback(nx) == {FallbackReason.WINDOW_SUSPENDED: PART}
    assert nx.statistics().opens == 2


@pytest.mark.parametrize("mode", ["nx", "mix"])
def test_strict_modes_give_the_error_to_the_caller_with_its_cause(world: World, lpar: Lpar, mode: str) -> None:
    nx = NxGzip(lpar, mode)
    world.kernel.total = 0
    with pytest.raises(NxError) as refused:
        nx.compress(PARTS)
    assert refused.value.reason is FallbackReason.OPEN_REFUSED
    assert refused.value.__cause__ is not None
    assert isinstance(refused.value.__cause__.__cause__, KernelFailure)
    world.kernel.total = 40
    world.pass_time(100_000)
    nx.compress(PARTS)
    world.kernel.suspend()
    with pytest.raises(NxError) as suspended:
        nx.compress(PARTS)
    assert suspended.value.reason is FallbackReason.WINDOW_SUSPENDED
    assert suspended.value.__cause__ is not None
    assert isinstance(suspended.value.__cause__.__cause__, PasteRefused)


@pytest.mark.parametrize("seed", range(3))
def test_many_at_once_on_one_window_all_get_their_own_bytes(world: World, lpar: Lpar, seed: int) -> None:
    nx = NxGzip(lpar)
    random = Random(seed)
    inputs = [random.randbytes(20_000) + bytes([number]) * 50_000 for number in range(8)]
    tasks = [world.start(nx._work.compressor.gzip(memoryview(data), 0)) for data in inputs]
    random.shuffle(order := list(range(8)))
    for number in order:
        assert gzip.decompress(world.finish(tasks[number])) == inputs[number]
    assert nx.statistics().compress.bytes_in == sum(map(len, inputs))


def test_a_window_can_be_opened_before_its_first_use(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar)
    assert nx.address is None
    nx.open()
    nx.open()
    assert nx.address == world.kernel.windows[0].address
    nx.compress(PARTS)
    assert (opens(world), nx.statistics().opens) == (1, 1)


def test_opening_early_gives_the_kernels_own_error(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar)
    world.kernel.failures.append(("tx_win_open", failure(KernelReason.HCALL_FAILED, HcallCode.H_RESOURCE)))
    with pytest.raises(KernelFailure) as caught:
        nx.open()
    assert (caught.value.reason, caught.value.hcall) == (KernelReason.HCALL_FAILED, HcallCode.H_RESOURCE)
    nx.open()
    assert nx.statistics().open_refusals == 1
