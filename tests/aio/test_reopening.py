"""on_suspend="reopen" on an event loop: a window that is closed or given up beside calls, and cancelled ones."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from lpar.client import shared_window
from lpar.client.aio import Lpar, NxGzip
from protocol.device_messages import Unmap
from protocol.wire import Envelope
from tests.aio.waiting import WAIT_S, eventually, nothing_is_open
from tests.client.kernel import LIMIT
from tests.client.servers import Servers
from tests.client.test_compress import TEXT

DATA = TEXT * 3
MESSAGES = 40
"""More than a call and a close beside it take."""


class Closer:
    """A hook that closes an NxGzip at the n-th message from now on, and may cancel a call in the loop's next turn."""

    def __init__(self, nx: NxGzip, at: int, victim: asyncio.Task[bytes] | None = None) -> None:
        self.nx = nx
        self.left = at
        self.victim = victim
        self.closing: asyncio.Task[None] | None = None

    def __call__(self, _direction: str, _key: str, _envelope: Envelope) -> None:
        self.left -= 1
        if self.left == 0:
            self.closing = asyncio.ensure_future(self.nx.close())
            if self.victim is not None:
                asyncio.get_running_loop().call_soon(self.victim.cancel)


@pytest.mark.parametrize("cancels", [False, True])
async def test_closed_beside_a_call_at_any_message_the_window_goes_with_the_call(
    servers: Servers, lpar: Lpar, cancels: bool
) -> None:
    """With two credits one stays spare: a window that nobody uses is given back."""
    servers.kernel.total = 2
    servers.kernel.files[LIMIT] = "65536\n"
    beside = 0
    for at in range(1, MESSAGES):
        nx = NxGzip(lpar, "auto", "reopen")
        await nx.open()
        call = asyncio.ensure_future(nx.compress(DATA))
        lpar.on_message = closer = Closer(nx, at, call if cancels else None)
        await asyncio.wait([call], timeout=WAIT_S)
        assert call.done()
        lpar.on_message = None
        beside += closer.closing is not None
        await (closer.closing or nx.close())
        if not call.cancelled():
            assert gzip.decompress(call.result()) == DATA
        await eventually(lambda: nothing_is_open(servers) and not lpar.driver.core.scheduler.tasks)
    assert beside > 10


@pytest.mark.parametrize("at", range(1, 30, 2))
async def test_cancelled_while_a_suspended_window_is_waited_for_nothing_stays_open(
    servers: Servers, lpar: Lpar, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_window, "SUSPECT_US", 2_000)
    monkeypatch.setattr(shared_window, "REOPEN_WAITS_US", (1_000, 2_000))
    nx = NxGzip(lpar, "nx", "reopen")
    await nx.open()
    servers.kernel.suspend()
    call = asyncio.ensure_future(nx.compress(TEXT))
    lpar.on_message = closer = Closer(nx, at, call)
    await asyncio.wait([call], timeout=WAIT_S)
    assert call.cancelled()
    lpar.on_message = None
    assert closer.closing is not None
    await closer.closing
    await eventually(lambda: nothing_is_open(servers) and not lpar.driver.core.scheduler.tasks)


async def test_cancelled_while_a_window_is_given_up_for_another_its_descriptor_is_closed(
    servers: Servers, lpar: Lpar
) -> None:
    """The window is unmapped and not closed yet; the NxGzip has forgotten it already."""
    nx = NxGzip(lpar, "nx", "reopen")
    await nx.open()
    servers.kernel.suspend()
    compressing = asyncio.ensure_future(nx.compress(TEXT))

    def hook(direction: str, _key: str, envelope: Envelope) -> None:
        if direction == "sent" and isinstance(envelope.body, Unmap):
            compressing.cancel()

    lpar.on_message = hook
    with pytest.raises(asyncio.CancelledError):
        await compressing
    await eventually(lambda: nothing_is_open(servers))
    assert nx.address is None
