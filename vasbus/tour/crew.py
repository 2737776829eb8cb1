"""The client processes of the tour: started, told what to do, heard."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from vasbus.tour.orders import Order, Quit, Reply, WindowReport

REPLY_WAIT_S = 120.0
QUIT_WAIT_S = 10.0


class TourFailure(Exception):
    """Something was not as it must be; the text says what."""


class Client:
    """One client process on a partition."""

    def __init__(self, lpar: str, endpoint: str, network: str, fallback: str) -> None:
        self.lpar = lpar
        self.fallback = fallback
        command = [sys.executable, "-m", "vasbus.tour.worker", lpar, endpoint, network, fallback]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, order: Order) -> None:
        """Give an order without waiting for its reply."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(order.model_dump_json() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise TourFailure(f"client {self.pid} on {self.lpar} is gone") from None

    def hear(self) -> Reply:
        """The reply to the order given. Raises TourFailure where the client failed or is silent."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], REPLY_WAIT_S)[0]:
            raise TourFailure(f"client {self.pid} on {self.lpar} gave no reply within {REPLY_WAIT_S:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise TourFailure(f"client {self.pid} on {self.lpar} ended with exit code {self._process.wait()}")
        reply = Reply.model_validate_json(line)
        if reply.failure:
            raise TourFailure(f"client {self.pid} on {self.lpar}: {reply.failure}")
        return reply

    def ask(self, order: Order) -> Reply:
        """Give an order and wait for its reply."""
        self.tell(order)
        return self.hear()

    def end(self) -> None:
        """Let it go; after QUIT_WAIT_S it is killed."""
        if self._process.poll() is None:
            try:
                self.tell(Quit())
                self._process.wait(QUIT_WAIT_S)
            except (TourFailure, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Crew:
    """All client processes, by partition, on one network."""

    def __init__(self, network: str) -> None:
        self.network = network
        self.clients: dict[str, list[Client]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self.everybody():
            client.end()

    def start(self, lpar: str, endpoint: str, fallbacks: Sequence[str]) -> None:
        """Start one client per entry of `fallbacks`, its software codec."""
        self.clients[lpar] = [Client(lpar, endpoint, self.network, fallback) for fallback in fallbacks]

    def everybody(self) -> list[Client]:
        return [client for clients in self.clients.values() for client in clients]

    def of(self, lpar: str) -> list[Client]:
        return self.clients[lpar]


def ask_all(clients: Sequence[Client], order: Order) -> list[Reply]:
    """Give everybody the same order, then hear everybody."""
    for client in clients:
        client.tell(order)
    return [client.hear() for client in clients]


def windows_of(replies: Sequence[Reply]) -> list[WindowReport]:
    """The windows of several reports."""
    return [window for reply in replies for window in reply.windows]
