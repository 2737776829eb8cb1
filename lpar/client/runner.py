"""What the interface needs of whatever runs its procedures: threads and sockets, or a simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from lpar.client.core import ClientCore
from lpar.client.steps import Procedure
from protocol.wire import Envelope

T = TypeVar("T")
Trace = Callable[[str, str, Envelope], None]
"""Told `sent` or `received`, the connection's key (`device`, or `paste:` and an endpoint) and the message."""


class Runner(Protocol):
    """A driver of a client core."""

    core: ClientCore
    on_message: Trace | None

    def run(self, procedure: Procedure[T]) -> T:
        """Run a procedure to its end. Raises what it raises."""

    def inspect(self, look: Callable[[], T]) -> T:
        """Read something of the core while nobody changes it. Raises ForkedProcess where that is not this process's."""

    def close(self) -> None:
        """Leave the partition and end."""
