"""Waiting for what other threads and tasks do, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lpar.client import Request
from protocol.codes import FunctionCode
from tests.client.servers import Servers
from tests.client.test_compress import TEXT

WAIT_S = 10.0
REQUEST = Request(FunctionCode.COMPRESS_DHT, TEXT[:20_000], 40_000)


async def eventually(holds: Callable[[], bool], what: str = "") -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(WAIT_S):
        while not holds():
            await asyncio.sleep(0.002)
    assert holds(), what


def nothing_is_open(servers: Servers) -> bool:
    """Whether the kernel holds nothing of any process."""
    return not servers.kernel.descriptors and not servers.kernel.mappings
