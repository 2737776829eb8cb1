"""What the asyncio interface needs of whatever runs its procedures: an event loop and sockets, or a simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from lpar.client.core import ClientCore
from lpar.client.runner import Trace
from lpar.client.steps import Procedure

T = TypeVar("T")
Undo = Callable[[Any], Procedure[object]]
"""What takes back a result that its caller never got, because it was cancelled at that very moment."""


class Runner(Protocol):
    """A driver of a client core."""

    core: ClientCore
    on_message: Trace | None

    async def start(self) -> None:
        """Dial the partition's kernel. A second call does nothing."""

    async def run(self, procedure: Procedure[T], undo: Undo | None = None, *, finish: bool = False) -> T:
        """Run a procedure to its end. Raises what it raises.

        Cancelling the caller cancels the procedure; with `finish` it goes on without the caller until its end.
        """

    def inspect(self, look: Callable[[], T]) -> T:
        """Read something of the core while nobody changes it. Raises ForkedProcess where that is not this process's."""

    async def close(self) -> None:
        """Leave the partition and end."""
