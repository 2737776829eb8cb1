"""Small paste round trips per second, blocking and asyncio, one and many at a time, against a real cluster.

    python -m tests.aio.bench [--seconds 2] [--callers 1 100]

A round trip is one request of 1 KiB on a caller's own window, from paste to CSB. Threads and tasks share one Lpar. The
NX unit is one process; client, unit, kernel and hypervisor share the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lpar.client
import lpar.client.aio
from deploy.cluster import ClusterFolder
from deploy.launcher import down, up
from lpar.client import Request
from protocol.codes import FunctionCode
from tests.aio.test_many_tasks import SYSTEM

REQUEST = Request(FunctionCode.COMPRESS_FHT, b"0123456789abcdef" * 64, 4_096)


def blocking(device: str, callers: int, seconds: float) -> float:
    """Round trips per second of threads."""
    start = threading.Barrier(callers)

    def work(process: lpar.client.Lpar) -> int:
        with process.open_window() as window:
            window.run(REQUEST)
            start.wait()
            until, done = time.perf_counter() + seconds, 0
            while time.perf_counter() < until:
                window.run(REQUEST)
                done += 1
        return done

    with lpar.client.Lpar(device) as process, ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(work, [process] * callers)) / seconds


async def waiting(device: str, callers: int, seconds: float) -> float:
    """Round trips per second of tasks."""
    start = asyncio.Barrier(callers)

    async def work(process: lpar.client.aio.Lpar) -> int:
        async with await process.open_window() as window:
            await window.run(REQUEST)
            await start.wait()
            until, done = time.perf_counter() + seconds, 0
            while time.perf_counter() < until:
                await window.run(REQUEST)
                done += 1
        return done

    async with lpar.client.aio.Lpar(device) as process:
        return sum(await asyncio.gather(*(work(process) for _ in range(callers)))) / seconds


def main() -> None:
    """Start a cluster, measure, print a table, stop it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 100])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vb") as name:
        path = Path(name) / "system.toml"
        path.write_text(SYSTEM)
        folder = ClusterFolder(Path(name) / "cluster")
        try:
            up(folder, path, lambda _text: None)
            device = folder.addresses().device["lp1"]
            print(f"{'callers':>8} {'threads/s':>10} {'asyncio/s':>10}")
            for callers in options.callers:
                threads = blocking(device, callers, options.seconds)
                tasks = asyncio.run(waiting(device, callers, options.seconds))
                print(f"{callers:>8} {threads:>10.0f} {tasks:>10.0f}", flush=True)
        finally:
            down(folder, lambda _text: None, keep_ledger=False)


if __name__ == "__main__":
    main()
