"""A process and its partition: welcome, restart, reconnection, farewell."""

from __future__ import annotations

import errno

import pytest

from lpar.client import KernelFailure, Lpar, LparClosed, MessageRefused, Request
from lpar.client.steps import Procedure, now, pause
from lpar.client.system_calls import open_device, read_file
from lpar.client.tally import PasteTally
from lpar.client.window import open_window
from protocol import device_messages as device
from protocol.codes import CompletionCode, FunctionCode, KernelReason
from protocol.refusals import RefusalCode
from protocol.session_messages import Bye, Hello
from protocol.wire import refuse
from tests.client.kernel import TOTAL
from tests.client.world import World

REQUEST = Request(FunctionCode.COMPRESS_DHT, b"again " * 100, 1024)


def test_a_process_says_who_it_is(world: World, lpar: Lpar) -> None:
    hello = world.sent_of(Hello)[0].body
    assert isinstance(hello, Hello)
    assert (hello.role, hello.name, hello.pid, hello.network) == ("client", "client-1", 1234, "local")
    assert (lpar.name, lpar.pid, lpar.endpoint, lpar.epoch, lpar.is_alive) == (
        "client-1", 1234, "ipc://kernel", 1, True,
    )  # fmt: skip


def test_a_partition_that_nobody_runs_is_a_timeout(world: World) -> None:
    world.kernel.mute = True
    world.core.dialer.open(world.now_us)
    world.core.dialer.session.epoch = 0
    with pytest.raises(TimeoutError, match="no kernel welcomed this process at ipc://kernel"):
        world.lpar(timeout=5.0)


def test_a_kernel_that_admits_nobody_says_why(world: World) -> None:
    world.kernel.listener.admit = lambda hello: refuse(RefusalCode.UNKNOWN_NAME, "a client", hello.role)
    with pytest.raises(MessageRefused, match="admits no session") as caught:
        world.lpar()
    assert caught.value.code is RefusalCode.UNKNOWN_NAME


def test_after_a_restart_of_the_partition_every_descriptor_is_dead(world: World, lpar: Lpar) -> None:
    window = lpar.open_window()
    window.map()
    world.kernel.restart()
    for _ in range(2):
        with pytest.raises(KernelFailure) as caught:
            lpar.read(TOTAL)
        assert (caught.value.errno, caught.value.reason) == (errno.ENODEV, KernelReason.DEAD)
    assert not lpar.is_alive
    with pytest.raises(KernelFailure):
        window.run(REQUEST)
    window.close()


def test_a_new_session_is_started_when_asked_and_old_descriptors_stay_dead(world: World, lpar: Lpar) -> None:
    old = lpar.open_window()
    old.map()
    file = lpar.open_device()
    world.kernel.restart()
    with pytest.raises(KernelFailure):
        lpar.read(TOTAL)
    lpar.reconnect()
    assert lpar.is_alive
    assert lpar.epoch > 1
    assert lpar.read(TOTAL) == "40\n"
    for use in (lambda: old.run(REQUEST), file.tx_win_open, file.close):
        with pytest.raises(KernelFailure) as caught:
            use()
        assert caught.value.reason is KernelReason.DEAD
    with lpar.open_window() as window:
        assert window.run(REQUEST).code is CompletionCode.OK


def test_reconnecting_a_living_session_does_nothing(lpar: Lpar) -> None:
    epoch = lpar.epoch
    lpar.reconnect()
    assert lpar.epoch == epoch


@pytest.mark.parametrize("seed", range(5))
def test_lost_and_repeated_messages_make_a_call_once_in_effect(seed: int) -> None:
    world = World(seed, loss=0.4, repeat=0.3)
    lpar = world.lpar(timeout=300.0)
    for _ in range(5):
        lpar.open_device()
    assert len(world.kernel.descriptors) == 5


def test_silence_makes_the_process_reattach_to_its_session(world: World, lpar: Lpar) -> None:
    world.kernel.mute = True
    world.later(4_000_000, lambda: setattr(world.kernel, "mute", False))
    assert lpar.read(TOTAL) == "40\n"
    assert world.dialled.count("ipc://kernel") == 2
    assert lpar.epoch == 1


def test_closing_says_bye_and_waits_for_its_answer(world: World, lpar: Lpar) -> None:
    lpar.open_window()
    lpar.close()
    lpar.close()
    assert len(world.sent_of(Bye)) == 1
    assert world.kernel.ended == 1
    assert "device" in world.hung_up
    with pytest.raises(LparClosed):
        lpar.read(TOTAL)


def test_closing_gives_up_on_a_kernel_that_does_not_answer(world: World, lpar: Lpar) -> None:
    world.kernel.mute = True
    began_us = world.now_us
    lpar.close()
    assert world.now_us - began_us == 1_000_000


def test_calls_under_way_end_when_the_process_closes(world: World, lpar: Lpar) -> None:
    world.kernel.delay["read_file"] = 50_000
    task = world.start(read_file(TOTAL, 1_000_000))
    lpar.close()
    with pytest.raises(LparClosed):
        task.outcome()


def test_a_cancelled_call_undoes_what_it_had_opened(world: World) -> None:
    world.lpar()
    task = world.start(open_device(1_000_000))
    world.core.cancel(task, world.now_us)
    world.core.cancel(task, world.now_us)
    world.pass_time(100_000)
    assert any(isinstance(body, device.OpenDevice) for body in world.kernel.executed)
    assert world.kernel.descriptors == {}


def test_a_cancelled_open_of_a_window_closes_its_descriptor(world: World) -> None:
    world.lpar()
    world.kernel.delay["tx_win_open"] = 50_000
    opening = open_window(qos=False, vas_id=-1, thread_id=0, timeout_us=1_000_000, tally=PasteTally())
    task = world.start(opening)
    world.pass_time(10_000)
    assert len(world.kernel.descriptors) == 1
    world.core.cancel(task, world.now_us)
    world.pass_time(100_000)
    assert world.kernel.windows == []


def test_procedures_advance_side_by_side(world: World) -> None:
    world.lpar()

    def nap(wait_us: int) -> Procedure[int]:
        yield from pause(wait_us)
        return (yield from now())

    began_us = world.now_us
    tasks = [world.start(nap(wait_us)) for wait_us in (300, 100, 200)]
    assert [world.finish(task) - began_us for task in tasks] == [300, 100, 200]
