"""A thousand tasks on one partition of a real cluster: separate hypervisor, kernel and NX unit processes."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Iterator

import pytest

from deploy.cluster import ClusterFolder
from lpar.client.aio import Lpar, NxGzip, Request
from protocol.codes import CompletionCode, FunctionCode
from protocol.link import MEBIBYTE
from tests.aio.waiting import REQUEST, eventually
from tests.client.test_compress import TEXT
from tests.processes.cluster import SYSFS, Cluster

TASKS = 1_000
CREDITS = 1_200
ROOM_BYTES = 8_192
SYSTEM = """
[system]
name = "many"

[[chip]]
number = 0
unit = "nx0"
cores = 60

[[lpar]]
name = "lp1"
cores = 60
home_chip = 0
"""
USED = f"{SYSFS}/default_capabilities/nr_used_credits"
TOTAL = f"{SYSFS}/default_capabilities/nr_total_credits"


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a partition with room for a window of each task."""
    path = tmp_path_factory.mktemp("many")
    system_path = path / "system.toml"
    system_path.write_text(SYSTEM)
    cluster = Cluster(ClusterFolder(path / "cluster"), system_path)
    try:
        cluster.up()
        yield cluster.folder.addresses().device["lp1"]
    finally:
        cluster.down()


def said(what: str, count: int, began: float) -> None:
    """Print a figure; `pytest -s` shows it."""
    seconds = time.perf_counter() - began
    print(f"\n{what}: {count} in {seconds:.2f} s, {count / seconds:.0f}/s")


async def test_a_thousand_tasks_each_with_a_window_of_its_own(device: str) -> None:
    """All windows are open at once, each is pasted to twice, and every credit comes back."""
    opened = asyncio.Barrier(TASKS + 1)
    leave = asyncio.Event()

    async def work(lpar: Lpar, number: int) -> int:
        async with await lpar.open_window() as window:
            await opened.wait()
            content = b"%d " % number * 500
            packed = await window.run(Request(FunctionCode.COMPRESS_DHT, content, ROOM_BYTES))
            plain = await window.run(Request(FunctionCode.DECOMPRESS, packed.target, ROOM_BYTES))
            assert packed.code is plain.code is CompletionCode.OK
            assert plain.target == content
            await leave.wait()
            return window.window_id

    async with Lpar(device) as lpar:
        assert await lpar.read(TOTAL) == f"{CREDITS}\n"
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(lpar, number)) for number in range(TASKS)]
            await opened.wait()
            said("windows opened by 1,000 tasks", TASKS, began)
            assert await lpar.read(USED) == f"{TASKS}\n"
            leave.set()
        said("tasks that opened, mapped, pasted twice and closed", TASKS, began)
        assert len({task.result() for task in tasks}) == TASKS
        assert await lpar.read(USED) == "0\n"


async def test_a_thousand_tasks_share_one_nx_gzip(device: str) -> None:
    """Requests of one window take turns; each task gets its own bytes."""

    async def work(nx: NxGzip, number: int) -> None:
        content = TEXT[number : number + 4_096] + b"%d" % number
        assert gzip.decompress(output := await nx.compress(content)) == content
        assert await nx.decompress(output) == content

    async with Lpar(device) as lpar, NxGzip(lpar, "nx", timeout=60.0) as nx:
        began = time.perf_counter()
        await asyncio.gather(*(work(nx, number) for number in range(TASKS)))
        said("tasks that compressed and decompressed on one window", TASKS, began)
        picture = nx.statistics()
        assert picture.opens == 1
        assert picture.compress.calls == picture.decompress.calls == TASKS
        assert picture.compress.is_balanced
        assert not picture.compress.software_bytes
        assert await lpar.read(USED) == "1\n"


async def test_a_thousand_tasks_are_cancelled_in_the_middle_and_leave_nothing(device: str) -> None:
    async def work(lpar: Lpar) -> None:
        async with await lpar.open_window() as window:
            while True:
                await window.run(REQUEST)

    async with Lpar(device) as lpar:
        tasks = [asyncio.ensure_future(work(lpar)) for _ in range(TASKS)]
        async with asyncio.timeout(30):
            while int(await lpar.read(USED)) < TASKS // 2:
                await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        async with asyncio.timeout(30):
            while await lpar.read(USED) != "0\n":
                await asyncio.sleep(0)
        await eventually(lambda: not lpar.driver.core.scheduler.tasks)
        async with NxGzip(lpar, "nx") as nx:
            assert await nx.decompress(await nx.compress(bytes(MEBIBYTE))) == bytes(MEBIBYTE)
