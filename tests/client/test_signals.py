"""SIGSEGV: the kernel ends the process, which lives again only as another one."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import pytest

from lpar.client import KernelFailure, Lpar, NxGzip, PasteArea, Request, RequestLost, SegmentationFault
from lpar.client.paste_links import UNANSWERED_LIMIT
from lpar.client.steps import Procedure, pause
from lpar.client.system_calls import paste, read_file
from lpar.client.tasks import Task
from protocol.codes import CompletionCode, FunctionCode, KernelReason, Signal
from protocol.device_messages import SignalTaken
from protocol.paste_messages import Paste
from tests.client.kernel import TOTAL, failure
from tests.client.test_compress import TEXT
from tests.client.world import World
from tests.fidelity.rows import fidelity

REQUEST = Request(FunctionCode.COMPRESS_DHT, b"mapped nowhere " * 100, 4096, csb_address=0)
FAULTING = replace(REQUEST, csb_present=False)


@pytest.fixture
def area(lpar: Lpar) -> PasteArea:
    return lpar.open_window().map()


def kill(world: World) -> None:
    world.kernel.raise_signal(0xBAD)
    world.pass_time(10_000)


@fidelity(
    "3 faults",
    "A status block that cannot be written ends the process that opened the window with SIGSEGV, with the block's "
    "address.",
    source="T:api",
)
def test_a_status_block_that_is_mapped_nowhere_ends_the_process(world: World, lpar: Lpar, area: PasteArea) -> None:
    pending = area.paste(FAULTING)
    with pytest.raises(SegmentationFault, match="SIGSEGV at 0x0 ended this process") as caught:
        pending.wait()
    assert (caught.value.signal, caught.value.address, caught.value.thread_id) == (Signal.SIGSEGV, 0, 7)
    assert not lpar.is_alive
    world.pass_time(10_000)
    assert [type(answer) for answer in world.kernel.answers] == [SignalTaken]
    assert world.kernel.listener.sessions == {}


@fidelity("3 faults", "The signal's default action ends the process: its windows are released.", source="T:api")
def test_every_later_call_fails_the_same_way(world: World, lpar: Lpar, area: PasteArea) -> None:
    nx = NxGzip(lpar, "software")
    window = lpar.open_window()
    kill(world)
    for use in (
        lambda: lpar.read(TOTAL),
        lpar.open_device,
        lpar.open_window,
        lambda: area.paste(REQUEST),
        area.unmap,
        window.close,
        lambda: nx.compress(TEXT),
    ):
        with pytest.raises(SegmentationFault):
            use()


def test_procedures_under_way_end_wherever_they_are(world: World, lpar: Lpar, area: PasteArea) -> None:
    world.kernel.delay["read_file"] = 1_000_000
    pending = area.paste(REQUEST)

    def sleeping() -> Procedure[None]:
        yield from pause(10_000_000)

    nx = NxGzip(lpar)
    tasks: list[Task[Any]] = [
        world.start(read_file(TOTAL, 5_000_000)),
        world.start(sleeping()),
        *(world.start(nx._work.compressor.gzip(memoryview(TEXT), 0)) for _ in range(3)),
    ]
    kill(world)
    for task in tasks:
        assert task.done
        with pytest.raises(SegmentationFault):
            task.outcome()
    with pytest.raises(SegmentationFault):
        pending.wait()


def test_a_call_that_fails_because_of_a_signal_on_its_way_ends_with_that_signal(world: World, lpar: Lpar) -> None:
    """A killed process returns from no call; on the wire the answer to one, ESRCH, may come before the signal."""
    world.kernel.failures.append(("read_file", failure(KernelReason.KILLED)))
    task = world.start(read_file(TOTAL, 5_000_000))
    world.pass_time(100_000)
    assert not task.done
    kill(world)
    with pytest.raises(SegmentationFault):
        world.finish(task)
    lpar.reconnect()
    assert lpar.read(TOTAL) == "40\n"


def test_reconnecting_makes_a_new_process_that_holds_nothing_of_the_old_one(
    world: World, lpar: Lpar, area: PasteArea
) -> None:
    nx = NxGzip(lpar)
    nx.compress(TEXT)
    pending = area.paste(REQUEST)
    kill(world)
    began_us, epoch = world.now_us, lpar.epoch
    lpar.reconnect()
    assert world.now_us - began_us < 1_000_000
    assert lpar.is_alive
    assert lpar.epoch > epoch
    assert lpar.read(TOTAL) == "40\n"
    moment_us = world.now_us
    with pytest.raises(RequestLost):
        pending.wait()
    assert world.now_us == moment_us
    with pytest.raises(KernelFailure) as caught:
        area.unmap()
    assert caught.value.reason is KernelReason.DEAD
    assert gzip.decompress(nx.compress(TEXT)) == TEXT
    nx.compress(TEXT)
    assert nx.statistics().opens == 2


def test_a_dead_process_sends_no_paste_that_waited_for_its_turn(world: World, lpar: Lpar) -> None:
    areas = [lpar.open_window().map() for _ in range(2 * (UNANSWERED_LIMIT + 2))]
    world.nx0.mute = world.nx1.mute = True
    for area in areas:
        world.start(paste(area._mapping, REQUEST, 5_000_000))
    sent = len(world.sent_of(Paste))
    assert sent == 2 * UNANSWERED_LIMIT
    kill(world)
    world.pass_time(1_000_000)
    assert len(world.sent_of(Paste)) == sent


def test_a_farewell_that_was_lost_is_said_again_on_the_next_connection(world: World, lpar: Lpar) -> None:
    world.kernel.raise_signal(0xBAD)
    while lpar.is_alive:
        world.turn()
    world.loss = 1.0
    world.later(2_000_000, lambda: setattr(world, "loss", 0.0))
    began_us = world.now_us
    world.kernel.mute = True
    world.later(3_100_000, lambda: setattr(world.kernel, "mute", False))
    lpar.reconnect()
    assert lpar.is_alive
    assert world.now_us - began_us < 4_000_000


@pytest.mark.parametrize("seed", range(8))
def test_the_new_process_waits_until_the_kernel_has_taken_leave_of_the_old_one(seed: int) -> None:
    world = World(seed)
    lpar = world.lpar(timeout=60.0)
    world.kernel.raise_signal(0xBAD)
    while lpar.is_alive:
        world.turn()
    world.loss = world.repeat = 0.3
    lpar.reconnect()
    assert lpar.read(TOTAL) == "40\n"
    assert len(world.kernel.listener.sessions) == 1


def test_a_dead_process_can_be_closed_without_waiting(world: World, lpar: Lpar) -> None:
    kill(world)
    began_us = world.now_us
    lpar.close()
    assert world.now_us == began_us


def test_a_signal_in_a_stopped_partition_is_forgotten_with_it(world: World, lpar: Lpar) -> None:
    kill(world)
    world.kernel.restart()
    lpar.reconnect()
    assert lpar.read(TOTAL) == "40\n"


def test_a_window_credit_that_faulted_with_its_process_hurts_nobody(lpar: Lpar) -> None:
    with pytest.raises(SegmentationFault):
        lpar.open_window().run(FAULTING)
    lpar.reconnect()
    csb = lpar.open_window().run(replace(REQUEST, csb_address=None))
    assert csb.code is CompletionCode.OK
