"""The convenient window: mapping when needed, patience with refusals, turns between threads."""

from __future__ import annotations

import zlib

import pytest

from lpar.client import KernelFailure, Lpar, PasteRefused, Request, Window
from lpar.client.steps import Acquire, Mutex, Procedure, pause
from lpar.client.system_calls import paste, wait_csb
from lpar.client.window import run_on_window
from protocol import device_messages as device
from protocol.codes import CompletionCode, FunctionCode
from protocol.paste_messages import Paste
from tests.client.world import World
from tests.fidelity.rows import fidelity

DATA = b"turn by turn " * 300
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, 8192)


@pytest.fixture
def window(lpar: Lpar) -> Window:
    return lpar.open_window()


def test_a_request_runs_from_paste_to_csb_and_maps_the_window_first(world: World, window: Window) -> None:
    csb = window.run(REQUEST)
    assert zlib.decompress(csb.target, -15) == DATA
    window.run(REQUEST)
    assert sum(isinstance(body, device.Mmap) for body in world.kernel.executed) == 1
    assert window.window_id == world.kernel.windows[0].address.window_id


def test_refusals_are_waited_out_with_growing_waits(world: World, window: Window) -> None:
    window.map()
    world.nx0.refuse_next = world.nx1.refuse_next = 20
    began_us = world.now_us
    assert window.run(REQUEST).code is CompletionCode.OK
    assert 10_000 < world.now_us - began_us < 30_000
    assert len(world.sent_of(Paste)) == 21


def test_a_window_that_stays_busy_is_refused_at_the_deadline(world: World, window: Window) -> None:
    window.map()
    world.nx0.refuse_next = world.nx1.refuse_next = 1 << 30
    began_us = world.now_us
    with pytest.raises(PasteRefused):
        window.run(REQUEST, timeout=0.1)
    assert 95_000 < world.now_us - began_us <= 100_000


def test_a_suspended_window_is_waited_for_until_its_credit_comes_back(world: World, window: Window) -> None:
    window.map()
    world.kernel.suspend()
    world.later(200_000, world.kernel.resume)
    assert window.run(REQUEST, timeout=1.0).code is CompletionCode.OK
    faults = sum(isinstance(body, device.Fault) for body in world.kernel.executed)
    assert 8 < faults < 25


def test_a_window_suspended_before_it_was_mapped_is_waited_for_likewise(world: World, window: Window) -> None:
    world.kernel.suspend()
    with pytest.raises(PasteRefused):
        window.run(REQUEST, timeout=0.1)
    world.later(200_000, world.kernel.resume)
    assert window.run(REQUEST, timeout=1.0).code is CompletionCode.OK


def test_a_request_lost_by_its_unit_is_pasted_again(world: World, window: Window) -> None:
    window.map()
    world.nx0.swallow_next = world.nx1.swallow_next = 0

    def crash() -> None:
        for unit in world.units.values():
            unit.restart()
        world.kernel.move(world.nx1)

    world.later(300, crash)
    assert window.run(REQUEST).code is CompletionCode.OK
    assert world.nx0.executed + world.nx1.executed == 1


def test_a_closed_window_of_a_restarted_partition_is_dead(world: World, window: Window) -> None:
    window.map()
    world.kernel.restart()
    with pytest.raises(KernelFailure):
        window.run(REQUEST)
    window.close()


@fidelity("5 races", "Threads of one process may share a window.", source="LNX:lib/gzip_vas.c")
def test_two_threads_of_one_window_take_turns_and_never_meet_its_one_window_credit(
    world: World, window: Window
) -> None:
    window.map()
    tasks = [world.start(run_on_window(window._state, REQUEST, 1_000_000)) for _ in range(2)]
    assert [zlib.decompress(world.finish(task).target, -15) for task in tasks] == [DATA, DATA]
    assert len(world.sent_of(Paste)) == 2, "no paste was refused"


@fidelity(
    "5 races",
    "Threads of one process on one window: its one window credit takes one request, the other paste is refused.",
    source="UM p.47",
)
def test_two_threads_that_paste_to_one_page_compete_for_the_window_credit(world: World, window: Window) -> None:
    area = window.map()
    first, second = (world.start(paste(area._mapping, REQUEST, 1_000_000)) for _ in range(2))
    pending = world.finish(first)
    with pytest.raises(PasteRefused) as caught:
        world.finish(second)
    assert (caught.value.cr0, caught.value.fault) == (0, None)
    csb = world.run(wait_csb(pending, area._mapping.tally, 1_000_000, keep=False))
    assert zlib.decompress(csb.target, -15) == DATA
    assert area.paste(REQUEST).wait().code is CompletionCode.OK


@fidelity("5 races", "Threads of one process may share a window.", source="LNX:lib/gzip_vas.c")
def test_procedures_take_turns_on_a_window_in_order_of_asking(world: World) -> None:
    world.lpar()
    mutex = Mutex()
    order: list[str] = []

    def turn(name: str) -> Procedure[None]:
        yield Acquire(mutex, world.now_us + 1_000_000)
        try:
            order.append(name)
            yield from pause(1_000)
        finally:
            mutex.release()

    tasks = [world.start(turn(name)) for name in "abcd"]
    world.core.cancel(tasks[1], world.now_us)
    world.core.cancel(tasks[0], world.now_us)
    for task in tasks[2:]:
        world.finish(task)
    assert order == ["a", "c", "d"]
    assert mutex.holder is None


def test_a_turn_that_never_comes_ends_at_its_deadline(world: World) -> None:
    world.lpar()
    mutex = Mutex()

    def hog() -> Procedure[None]:
        yield Acquire(mutex, 0)
        yield from pause(10_000_000)

    def patient() -> Procedure[None]:
        yield Acquire(mutex, world.now_us + 500)

    world.start(hog())
    with pytest.raises(TimeoutError, match="in use by other threads"):
        world.run(patient())
    assert not mutex.waiting
