"""What both interfaces do alike: the way from open to CSB, faults, errnos, fallback, restarts."""

from __future__ import annotations

import asyncio
import errno
import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lpar.client import (
    BusError,
    CorruptData,
    FileForbidden,
    FileMissing,
    KernelFailure,
    LparClosed,
    NxError,
    PasteRefused,
    SegmentationFault,
    WindowExists,
)
from protocol.codes import CompletionCode, FallbackReason
from protocol.wire import Envelope
from tests.aio.sides import SIDES, Side, done, entered
from tests.aio.waiting import REQUEST, WAIT_S, eventually, nothing_is_open
from tests.client.kernel import TOTAL, USED, WRITE_ONLY
from tests.client.servers import Servers
from tests.client.test_compress import TEXT


@pytest.fixture(params=SIDES, ids=lambda side: side.name)
def side(request: pytest.FixtureRequest) -> Side:
    chosen: Side = request.param
    return chosen


@pytest.fixture
async def process(side: Side, servers: Servers) -> AsyncIterator[Any]:
    async with entered(side.lpar(servers.endpoint, timeout=WAIT_S)) as opened:
        yield opened


async def test_the_whole_way_from_open_to_csb(servers: Servers, process: Any) -> None:
    async with entered(await done(process.open_device())) as device:
        assert await done(device.tx_win_open()) > 0
        async with entered(await done(device.mmap())) as area:
            pending = await done(area.paste(REQUEST))
            csb = await done(pending.wait())
            assert await done(pending.wait()) == csb
            await done(area.load())
    assert csb.code is CompletionCode.OK
    assert zlib.decompress(csb.target, -15) == REQUEST.source
    assert nothing_is_open(servers)


async def test_a_moved_window_is_remapped_by_the_next_paste(servers: Servers, process: Any) -> None:
    async with entered(await done(process.open_window())) as window:
        before = (await done(window.map())).address
        servers.kernel.move(servers.units[0])
        assert (await done(window.run(REQUEST))).code is CompletionCode.OK
        assert window.area.address not in (None, before)


async def test_a_window_without_its_credit_refuses_pastes_until_it_comes_back(servers: Servers, process: Any) -> None:
    async with entered(await done(process.open_window())) as window:
        area = await done(window.map())
        servers.kernel.suspend()
        with pytest.raises(PasteRefused):
            await done(area.paste(REQUEST))
        with pytest.raises(BusError):
            await done(area.load())
        with pytest.raises(PasteRefused):
            await done(window.run(REQUEST, timeout=0.05))
        servers.kernel.resume()
        assert (await done(window.run(REQUEST))).code is CompletionCode.OK


async def test_errnos_are_those_of_the_kernel(servers: Servers, process: Any) -> None:
    device = await done(process.open_device())
    with pytest.raises(KernelFailure) as no_window:
        await done(device.mmap())
    await done(device.tx_win_open())
    with pytest.raises(WindowExists):
        await done(device.tx_win_open())
    with pytest.raises(FileMissing):
        await done(process.read("/sys/nothing"))
    with pytest.raises(FileForbidden):
        await done(process.read(WRITE_ONLY))
    servers.kernel.total = 1
    with pytest.raises(KernelFailure) as no_credit:
        await done(process.open_window())
    assert (no_window.value.errno, no_credit.value.errno) == (errno.EINVAL, errno.EINVAL)
    assert await done(process.read(USED)) == "1\n"
    await done(device.close())
    await done(device.close())
    assert nothing_is_open(servers)


def plain(output: bytes, format: str) -> bytes:
    """The content, by Python's own modules."""
    return gzip.decompress(output) if format == "gzip" else zlib.decompress(output, 15 if format == "zlib" else -15)


@pytest.mark.parametrize("format", ["gzip", "zlib", "raw"])
async def test_input_of_many_parts_goes_there_and_back(side: Side, process: Any, format: str) -> None:
    data = TEXT * 10
    async with entered(side.nx_gzip(process, "nx")) as nx:
        output = await done(nx.compress(data, format))
        assert plain(output, format) == data
        assert await done(nx.decompress(output, format)) == data
        picture = nx.statistics()
    assert picture.compress.nx_bytes == picture.compress.bytes_in == len(data)
    assert any(family.name.startswith("vasbus_client_") for family in nx.metrics())


async def test_without_a_credit_software_does_it_and_says_so(servers: Servers, side: Side, process: Any) -> None:
    servers.kernel.total = 0
    nx = side.nx_gzip(process)
    assert gzip.decompress(await done(nx.compress(TEXT))) == TEXT
    assert nx.statistics().compress.fallback[FallbackReason.OPEN_REFUSED] == len(TEXT)
    with pytest.raises(NxError):
        await done(side.nx_gzip(process, "nx").compress(TEXT))


async def test_an_absent_page_is_touched_and_the_request_resubmitted(
    servers: Servers, side: Side, process: Any
) -> None:
    for unit in servers.units:
        unit.codes = [CompletionCode.TRANSLATION_FAULT]
    async with entered(side.nx_gzip(process, "nx")) as nx:
        assert gzip.decompress(await done(nx.compress(TEXT))) == TEXT
    assert nx.statistics().page_faults == 1


async def test_damage_is_told_and_not_passed_on(side: Side, process: Any) -> None:
    nx = side.nx_gzip(process)
    output = bytearray(await done(nx.compress(TEXT)))
    output[-6] ^= 1
    with pytest.raises(CorruptData):
        await done(nx.decompress(output))
    for wrong in ({"mode": "fast"}, {"fallback": "lzma"}, {"on_suspend": "wait"}):
        with pytest.raises(ValueError, match=r"."):
            side.nx_gzip(process, **wrong)
    with pytest.raises(ValueError, match="format"):
        await done(nx.compress(TEXT, "zip"))


async def test_a_restarted_partition_is_noticed_and_joined_again(servers: Servers, side: Side, process: Any) -> None:
    nx = side.nx_gzip(process)
    await done(nx.open())
    epoch = process.epoch
    servers.kernel.restart()
    with pytest.raises(KernelFailure) as caught:
        await done(process.read(TOTAL))
    assert (caught.value.errno, process.is_alive) == (errno.ENODEV, False)
    await done(process.reconnect())
    assert process.is_alive
    assert process.epoch > epoch
    assert gzip.decompress(await done(nx.compress(TEXT))) == TEXT


async def read_on(process: Any) -> None:
    """Call until a call fails: a signal comes when the kernel's message does."""
    async with asyncio.timeout(WAIT_S):
        while True:
            await done(process.read(TOTAL))


async def test_a_signal_of_the_kernel_ends_the_process_until_it_reconnects(servers: Servers, process: Any) -> None:
    window = await done(process.open_window())
    servers.kernel.raise_signal(0)
    with pytest.raises(SegmentationFault):
        await read_on(process)
    with pytest.raises(SegmentationFault):
        await done(window.map())
    await done(process.reconnect())
    assert await done(process.read(TOTAL)) == "40\n"


async def test_after_its_end_a_process_says_so(servers: Servers, side: Side) -> None:
    async with entered(side.lpar(servers.endpoint)) as process:
        window = await done(process.open_window())
    for call in (lambda: process.read(TOTAL), window.close, process.open_device, lambda: window.run(REQUEST)):
        with pytest.raises(LparClosed):
            await done(call())
    await done(process.close())
    await eventually(lambda: nothing_is_open(servers) and servers.kernel.ended == 1)


async def test_where_nobody_listens_the_deadline_is_kept(side: Side, tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="no kernel welcomed this process"):
        async with entered(side.lpar(f"ipc://{tmp_path}/nobody", timeout=0.2)):
            pass


@pytest.mark.parametrize("endpoint", ["nonsense", "ipc://" + "x" * 200, "smoke://signal"])
async def test_an_endpoint_that_is_none_is_told_at_once(side: Side, endpoint: str) -> None:
    with pytest.raises(OSError, match=r"cannot dial .*expected ipc:///path/of/a/socket or tcp://host:port"):
        async with entered(side.lpar(endpoint)):
            pass


async def test_every_message_is_shown_to_the_hook(servers: Servers, side: Side) -> None:
    seen: list[tuple[str, str, str]] = []

    def note(direction: str, key: str, envelope: Envelope) -> None:
        seen.append((direction, key.partition(":")[0], envelope.body.type))

    async with (
        entered(side.lpar(servers.endpoint, on_message=note)) as process,
        entered(await done(process.open_window())) as window,
    ):
        await done(window.run(REQUEST))
    kinds = {(direction, key) for direction, key, _type in seen}
    assert kinds == {(direction, key) for direction in ("sent", "received") for key in ("device", "paste")}


async def test_libnxzs_way_shares_a_window_and_keeps_one_credit_spare(
    servers: Servers, side: Side, process: Any
) -> None:
    first, second = (side.nx_gzip(process, "nx", "reopen") for _ in range(2))
    for nx in (first, second):
        assert gzip.decompress(await done(nx.compress(TEXT))) == TEXT
    assert len(servers.kernel.windows) == 1
    await done(first.close())
    await done(second.close())
    assert len(servers.kernel.windows) == 1, "kept for reuse"
    servers.kernel.total = 2
    with pytest.raises(BlockingIOError) as refused:
        await done(side.nx_gzip(process, on_suspend="reopen").open())
    assert refused.value.errno == errno.EAGAIN
