"""A cancelled call leaves nothing open, wherever it was cancelled, and its neighbours go on."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpar.client.aio import Lpar, NxGzip
from protocol.codes import CompletionCode
from protocol.device_messages import CloseDescriptor, Unmap
from protocol.paste_messages import Paste
from protocol.wire import Envelope
from tests.aio.waiting import REQUEST, WAIT_S, eventually, nothing_is_open
from tests.client.kernel import TOTAL, USED
from tests.client.servers import Servers
from tests.client.test_compress import TEXT

ONE_REQUEST_BYTES = 20_000
Story = Callable[[Lpar], Awaitable[None]]


async def by_hand(lpar: Lpar) -> None:
    async with await lpar.open_device() as device:
        await device.tx_win_open()
        async with await device.mmap() as area:
            pending = await area.paste(REQUEST)
            assert (await pending.wait()).code is CompletionCode.OK


async def by_window(lpar: Lpar) -> None:
    async with await lpar.open_window() as window:
        assert (await window.run(REQUEST)).code is CompletionCode.OK


async def by_nx_gzip(lpar: Lpar) -> None:
    async with NxGzip(lpar) as nx:
        assert gzip.decompress(await nx.compress(TEXT)) == TEXT


async def by_reopening(lpar: Lpar) -> None:
    """With two credits one stays spare, and a window that nobody uses is given back."""
    async with NxGzip(lpar, "nx", "reopen") as nx:
        assert gzip.decompress(await nx.compress(TEXT)) == TEXT


async def refused(lpar: Lpar) -> None:
    """A window too many: the descriptor that was opened for it is closed again."""
    async with await lpar.open_window():
        with pytest.raises(OSError, match=r"."):
            await lpar.open_window()


STORIES = (by_hand, by_window, by_nx_gzip, refused, by_reopening)


class Trigger:
    """A hook that cancels a task at the n-th message from now on; `late`: in the loop's next turn."""

    def __init__(self, at: int, *, late: bool = False) -> None:
        self.left = at
        self.late = late
        self.seen = 0
        self.victim: asyncio.Task[None] | None = None

    def __call__(self, _direction: str, _key: str, _envelope: Envelope) -> None:
        self.seen += 1
        self.left -= 1
        if self.left == 0 and self.victim is not None:
            if self.late:
                asyncio.get_running_loop().call_soon(self.victim.cancel)
            else:
                self.victim.cancel()


async def length_of(lpar: Lpar, story: Story) -> int:
    """How many messages a story takes."""
    lpar.on_message = trigger = Trigger(-1)
    await story(lpar)
    lpar.on_message = None
    return trigger.seen


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("story", STORIES)
async def test_cancelled_at_any_message_nothing_stays_open(
    servers: Servers, lpar: Lpar, story: Story, late: bool
) -> None:
    servers.kernel.total = 2 if story is by_reopening else 1
    length, cancelled = await length_of(lpar, story), 0
    for at in range(1, length + 1):
        trigger = Trigger(at, late=late)
        lpar.on_message = trigger
        trigger.victim = asyncio.ensure_future(story(lpar))
        await asyncio.wait([trigger.victim])
        cancelled += trigger.victim.cancelled()
        assert trigger.victim.cancelled() or trigger.victim.exception() is None
        lpar.on_message = None
        await eventually(lambda: nothing_is_open(servers))
        assert await lpar.read(USED) == "0\n"
        await eventually(lambda: not lpar.driver.core.scheduler.tasks)
    for kind in (CloseDescriptor, Unmap):
        # Twice would hit another file: the kernel gives the lowest free number away again.
        closed = [body for body in servers.kernel.executed if isinstance(body, kind)]
        assert len(closed) == len(set(closed))
    # A story may end with its last message, and take one or two fewer next time.
    assert length > 3
    assert cancelled >= length - 3
    await story(lpar)


def test_neighbours_of_cancelled_tasks_go_on(servers: Servers) -> None:
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(plan=st.lists(st.tuples(st.sampled_from(STORIES[:3]), st.integers(1, 40)), min_size=1, max_size=6))
    def holds(plan: list[tuple[Story, int]]) -> None:
        asyncio.run(carry_out(servers, plan))

    holds()


async def carry_out(servers: Servers, plan: list[tuple[Story, int]]) -> None:
    """All stories at once, each cancelled at a message of its own, beside one that is not."""
    async with Lpar(servers.endpoint, timeout=WAIT_S) as lpar:
        triggers = [Trigger(at) for _story, at in plan]

        def hook(direction: str, key: str, envelope: Envelope) -> None:
            for trigger in triggers:
                trigger(direction, key, envelope)

        lpar.on_message = hook
        neighbour = asyncio.ensure_future(by_window(lpar))
        tasks = [asyncio.ensure_future(story(lpar)) for story, _at in plan]
        for trigger, task in zip(triggers, tasks, strict=True):
            trigger.victim = task
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if outcome is not None and not isinstance(outcome, asyncio.CancelledError):
                raise outcome
        await neighbour
        # A close that was cancelled goes on by itself: its answer may still be on the way.
        await eventually(lambda: nothing_is_open(servers) and not lpar.driver.core.scheduler.tasks)


async def test_cancelled_while_software_computes(servers: Servers, lpar: Lpar) -> None:
    servers.kernel.total = 0
    nx = NxGzip(lpar, level=9)
    computing = asyncio.ensure_future(nx.compress(os.urandom(1000) * 4_000))
    await eventually(lambda: nx.statistics().open_refusals == 1)
    computing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await computing
    assert not lpar.driver.core.scheduler.tasks
    assert gzip.decompress(await nx.compress(TEXT)) == TEXT


async def test_cancelled_before_it_began_a_call_is_not_made(servers: Servers, lpar: Lpar) -> None:
    opening = asyncio.ensure_future(lpar.open_window())
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await lpar.read(TOTAL)
    assert nothing_is_open(servers)


@pytest.mark.parametrize("name", ["device_opened", "mapped"])
async def test_a_result_that_comes_with_the_cancellation_is_taken_back(servers: Servers, lpar: Lpar, name: str) -> None:
    """The call is done, its task not yet woken: nobody but the driver knows what was opened."""
    loop = asyncio.get_running_loop()
    device = await lpar.open_device()
    await device.tx_win_open()
    call = lpar.open_device() if name == "device_opened" else device.mmap()
    opening = asyncio.ensure_future(call)

    def hook(_direction: str, _key: str, envelope: Envelope) -> None:
        if envelope.body.type == name:
            loop.call_soon(opening.cancel)

    lpar.on_message = hook
    with pytest.raises(asyncio.CancelledError):
        await opening
    await eventually(lambda: list(servers.kernel.descriptors) == [device.descriptor] and not servers.kernel.mappings)
    await device.close()


async def test_a_cancelled_close_goes_on_by_itself(servers: Servers, lpar: Lpar) -> None:
    window = await lpar.open_window()
    await window.map()
    closing = asyncio.ensure_future(window.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await eventually(lambda: nothing_is_open(servers))
    await window.close()


async def test_a_timeout_of_asyncio_ends_a_call(servers: Servers, lpar: Lpar) -> None:
    async with await lpar.open_window() as window:
        await window.map()
        for unit in servers.units:
            unit.mute = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await window.run(REQUEST)
        for unit in servers.units:
            unit.mute = False
        assert (await window.run(REQUEST)).code is CompletionCode.OK


async def test_a_csb_can_be_waited_for_again_after_a_cancellation(lpar: Lpar) -> None:
    async with await lpar.open_window() as window:
        pending = await (await window.map()).paste(REQUEST)
        waiting = asyncio.ensure_future(pending.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await pending.wait()).code is CompletionCode.OK


async def test_one_that_waits_for_a_window_is_cancelled_and_the_next_gets_it(lpar: Lpar) -> None:
    async with await lpar.open_window() as window:
        await window.map()
        turns = [asyncio.ensure_future(window.run(REQUEST)) for _ in range(6)]
        await asyncio.sleep(0)
        turns[0].cancel()
        turns[3].cancel()
        outcomes = await asyncio.gather(*turns, return_exceptions=True)
    cancelled = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, asyncio.CancelledError)]
    assert cancelled == [0, 3]
    assert all(outcome.code is CompletionCode.OK for outcome in outcomes if not isinstance(outcome, BaseException))


@pytest.mark.parametrize("at", [1, 2])
async def test_opening_a_process_that_is_cancelled_leaves_no_process(servers: Servers, at: int) -> None:
    """At HELLO, which the kernel may never see, and at WELCOME, which BYE has to follow.

    The cancellation is delivered in the loop's next turn: where the kernel is faster, WELCOME comes before it after
    all, and BYE too. So in the first case the kernel does not answer.
    """
    servers.kernel.mute = at == 1
    descriptors = len(os.listdir("/proc/self/fd"))
    trigger = Trigger(at)
    trigger.victim = asyncio.ensure_future(open_only(servers, trigger))
    with pytest.raises(asyncio.CancelledError):
        await trigger.victim
    await eventually(lambda: servers.kernel.ended == at - 1)
    # The servers are in this process too: their ends close a little later.
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


async def open_only(servers: Servers, trigger: Trigger) -> None:
    await Lpar.open(servers.endpoint, on_message=trigger)


async def test_a_cancelled_close_of_an_nx_gzip_in_use_follows_its_request(servers: Servers, lpar: Lpar) -> None:
    """Cancelled while it waits behind the one request of a call: the window is closed all the same."""
    pasted = asyncio.Event()

    def watch(_direction: str, _key: str, envelope: Envelope) -> None:
        if isinstance(envelope.body, Paste):
            pasted.set()

    part = TEXT[:ONE_REQUEST_BYTES]
    nx = NxGzip(lpar, "nx")
    await nx.open()
    lpar.on_message = watch
    compressing = asyncio.ensure_future(nx.compress(part))
    async with asyncio.timeout(WAIT_S):
        await pasted.wait()
    closing = asyncio.ensure_future(nx.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert gzip.decompress(await compressing) == part
    await eventually(lambda: nothing_is_open(servers))
