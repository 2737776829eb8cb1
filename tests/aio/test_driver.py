"""The driver on an event loop: its end, its owner, its turns."""

from __future__ import annotations

import asyncio
import gc
import gzip
import os
import signal
import threading
import time
import warnings

import pytest

from lpar.client.aio import ForkedProcess, Lpar, LparClosed, NxGzip, PasteRefused
from protocol.codes import CompletionCode
from protocol.device_messages import SignalTaken
from protocol.wire import Envelope
from tests.aio.waiting import REQUEST, WAIT_S, eventually, nothing_is_open
from tests.client.kernel import TOTAL
from tests.client.servers import Servers
from tests.client.test_compress import TEXT

TURN_LIMIT_S = 0.05
"""CPU time of one callback of the loop. A part of 1 MiB in software takes several times that at level 9."""


async def test_it_is_opened_in_three_ways(servers: Servers) -> None:
    opened = await Lpar.open(servers.endpoint, name="one")
    assert (opened.name, opened.pid, opened.endpoint) == ("one", os.getpid(), servers.endpoint)
    async with opened as same:
        assert same is opened
    async with Lpar(servers.endpoint) as lpar:
        assert await Lpar.on(lpar.driver) is not lpar
        assert await lpar.read(TOTAL) == "40\n"


async def test_before_it_is_open_it_says_how_to_open_it(servers: Servers) -> None:
    lpar = Lpar(servers.endpoint)
    with pytest.raises(RuntimeError, match="async with"):
        await lpar.read(TOTAL)
    await lpar.close()
    with pytest.raises(LparClosed):
        await lpar.read(TOTAL)
    with pytest.raises(LparClosed):
        await lpar.__aenter__()


async def test_closing_ends_the_calls_of_other_tasks(servers: Servers) -> None:
    lpar = await Lpar.open(servers.endpoint)
    window = await lpar.open_window()
    await window.map()
    servers.kernel.total = 1
    computing = asyncio.ensure_future(NxGzip(lpar, level=9).compress(os.urandom(1000) * 4_000))
    for unit in servers.units:
        unit.mute = True
    calls = [asyncio.ensure_future(window.run(REQUEST)) for _ in range(3)]
    await eventually(lambda: any(task.work for task in lpar.driver.core.scheduler.tasks.values()))
    closings = [asyncio.ensure_future(lpar.close()) for _ in range(2)]
    for outcome in await asyncio.gather(*calls, computing, return_exceptions=True):
        assert isinstance(outcome, LparClosed)
    await asyncio.gather(*closings)
    await lpar.close()
    with pytest.raises(LparClosed):
        await lpar.read(TOTAL)
    await eventually(lambda: servers.kernel.ended == 1)


async def test_a_cancelled_close_is_a_close_all_the_same(servers: Servers) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    lpar = await Lpar.open(servers.endpoint)
    servers.kernel.mute = True
    closing = asyncio.ensure_future(lpar.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    # The servers are in this process too: their ends close a little later.
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
    with pytest.raises(LparClosed):
        await lpar.read(TOTAL)
    await lpar.close()


async def test_another_loop_in_another_thread_is_refused(servers: Servers, lpar: Lpar) -> None:
    refusals: list[str] = []

    async def use() -> None:
        for call in (lpar.read(TOTAL), lpar.open_device(), lpar.close()):
            try:
                await call
            except RuntimeError as error:
                refusals.append(str(error))

    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    await eventually(lambda: not thread.is_alive())
    assert len(refusals) == 3
    assert all("another event loop" in refusal for refusal in refusals)
    assert await lpar.read(TOTAL) == "40\n"
    assert nothing_is_open(servers)


def test_a_loop_that_has_ended_is_told_from_the_one_that_runs(servers: Servers) -> None:
    """The second loop may even get the first one's descriptors."""
    lpar = Lpar(servers.endpoint)
    asyncio.run(lpar.__aenter__())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(lpar.read(TOTAL))
    asyncio.run(lpar.close())
    assert not lpar.driver.core.scheduler.tasks
    asyncio.run(lpar.close())


def test_a_process_that_was_forgotten_is_closed_and_said(servers: Servers) -> None:
    async def forget() -> None:
        await (await Lpar.open(servers.endpoint)).open_window()

    def run() -> None:
        asyncio.run(forget())
        gc.collect()

    with pytest.warns(ResourceWarning, match="a Driver was not closed"):
        run()


async def test_a_forked_child_is_told_to_make_its_own(lpar: Lpar) -> None:
    """At the moment of the fork a thread that asks for statistics has the guard; nobody gives it back in the child."""
    nx, held, let_go = NxGzip(lpar), threading.Event(), threading.Event()

    def look() -> None:
        held.set()
        let_go.wait(WAIT_S)

    holder = threading.Thread(target=lpar.driver.inspect, args=(look,))
    holder.start()
    held.wait(WAIT_S)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        signal.alarm(int(WAIT_S))
        try:
            os._exit(_in_the_child(lpar, nx))
        finally:
            os._exit(1)
    let_go.set()
    holder.join()
    _pid, status = await asyncio.to_thread(os.waitpid, child, 0)
    assert os.waitstatus_to_exitcode(status) == 17
    assert await lpar.read(TOTAL) == "40\n"


def _in_the_child(lpar: Lpar, nx: NxGzip) -> int:
    async def use() -> int:
        await lpar.close()
        with pytest.raises(ForkedProcess):
            await lpar.read(TOTAL)
        for look in (nx.statistics, nx.metrics, lambda: nx.address, lambda: lpar.is_alive, lambda: lpar.epoch):
            with pytest.raises(ForkedProcess):
                look()
        return 17

    loop = asyncio.new_event_loop()
    return loop.run_until_complete(use())


async def test_the_kernel_is_answered_when_nobody_calls(servers: Servers, lpar: Lpar) -> None:
    """A signal comes between two calls; on an event loop it is taken at once."""
    await lpar.open_window()
    servers.kernel.raise_signal(0)
    await eventually(lambda: any(isinstance(answer, SignalTaken) for answer in servers.kernel.answers))
    assert not lpar.is_alive


async def test_a_hook_that_raises_is_dropped_and_reported(servers: Servers) -> None:
    def explode(_direction: str, _key: str, _envelope: Envelope) -> None:
        raise RuntimeError("boom")

    with pytest.warns(RuntimeWarning, match="boom"):
        lpar = await Lpar.open(servers.endpoint, on_message=explode)
    assert lpar.on_message is None
    assert await lpar.read(TOTAL) == "40\n"
    await lpar.close()


async def test_a_call_that_is_refused_at_once_lets_the_loop_turn(lpar: Lpar) -> None:
    """While a request is under way a second paste is refused without a message. Trying again must not stop the CSB."""
    async with await lpar.open_window() as window:
        area = await window.map()
        first = await area.paste(REQUEST)
        async with asyncio.timeout(WAIT_S):
            second = None
            while second is None:
                try:
                    second = await area.paste(REQUEST)
                except PasteRefused:
                    continue
        assert (await first.wait()).code is (await second.wait()).code is CompletionCode.OK


async def test_an_executor_that_has_ended_fails_the_call_and_no_more(servers: Servers, lpar: Lpar) -> None:
    servers.kernel.total = 0
    await asyncio.get_running_loop().shutdown_default_executor()
    with pytest.raises(RuntimeError, match=r"[Ee]xecutor"):
        await NxGzip(lpar).compress(TEXT)
    assert await lpar.read(TOTAL) == "0\n"


async def test_no_callback_holds_the_loop_up(lpar: Lpar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tasks, parts of 1 MiB, on NX units and in software at level 9; measured is the CPU time of each callback."""
    turns: list[float] = []
    run = asyncio.Handle._run

    def measured(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        turns.append(time.thread_time() - began)

    monkeypatch.setattr(asyncio.Handle, "_run", measured)
    data = (TEXT * 30)[: 4 << 20]
    nx, software = NxGzip(lpar, "nx"), NxGzip(lpar, "software", level=9)
    outputs = await asyncio.gather(
        *(nx.compress(data) for _ in range(3)), software.compress(data), *(nx.compress(TEXT) for _ in range(50))
    )
    assert len(turns) > 100
    assert max(turns) < TURN_LIMIT_S
    monkeypatch.undo()
    assert all(gzip.decompress(output) == data for output in outputs[:4])
    await nx.close()


async def test_one_timer_is_set_at_a_time(servers: Servers, lpar: Lpar) -> None:
    """Refused pastes are tried again after very short pauses, each earlier than whatever else is due."""
    loop = asyncio.get_running_loop()
    async with await lpar.open_window() as window:
        await window.map()
        for unit in servers.units:
            unit.refuse_next = 20
        assert (await window.run(REQUEST)).code is CompletionCode.OK
        handles = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        assert sum("Driver._ring" in repr(handle) for handle in handles) == 1
