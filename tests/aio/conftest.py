"""A pretended kernel and NX units behind real sockets, and an asyncio process on them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from lpar.client.aio import Lpar
from tests.aio.waiting import WAIT_S
from tests.client.servers import Servers, serving


@pytest.fixture
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="vb") as folder, serving(Path(folder)) as running:
        yield running


@pytest.fixture(autouse=True)
async def _no_callback_fails() -> AsyncIterator[None]:
    """The loop only logs what a callback raises; here it fails the test."""
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    yield
    assert not failures


@pytest.fixture
async def lpar(servers: Servers) -> AsyncIterator[Lpar]:
    async with Lpar(servers.endpoint, timeout=WAIT_S) as process:
        yield process
