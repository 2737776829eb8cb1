"""One test for both interfaces: the blocking one is called as it is, the other is awaited."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import lpar.client
import lpar.client.aio


@dataclass(frozen=True)
class Side:
    """The names of one of the two packages, for code that does not care which."""

    name: str
    package: ModuleType

    def lpar(self, endpoint: str, **options: Any) -> Any:
        """A process as a context manager for `entered`."""
        return self.package.Lpar(endpoint, **options)

    def nx_gzip(self, process: Any, *arguments: Any, **options: Any) -> Any:
        return self.package.NxGzip(process, *arguments, **options)


SIDES = (Side("threads", lpar.client), Side("asyncio", lpar.client.aio))


async def done(outcome: Any) -> Any:
    """What a call gives, now or when it is awaited."""
    return await outcome if inspect.isawaitable(outcome) else outcome


@asynccontextmanager
async def entered(manager: Any) -> AsyncIterator[Any]:
    """`with` or `async with`."""
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value
