"""Clients that open and close windows without waiting for each other: what they ask, and what they are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from protocol.device_messages import CloseDescriptor, DeviceOpened, Done, OpenDevice, OsFailure, TxWinOpen, WindowOpened
from protocol.message import Reply, Request
from protocol.session_messages import Refused

Heard = Callable[[Reply | Refused], None]
OPENED = "opened"


class Caller(Protocol):
    """A client process: it makes system calls and hears their answers."""

    waiting: dict[int, Heard]

    def call(self, body: Request, heard: Heard) -> None:
        """Ask the kernel; `heard` is called with the answer."""


@dataclass
class AtOnce:
    """So many opens of each client, asked without waiting for any; `outcomes` are how they ended, by name."""

    callers: Sequence[Caller]
    each: int
    descriptors: list[tuple[Caller, int]] = field(default_factory=list)
    failures: list[Reply | Refused] = field(default_factory=list)
    opened: set[int] = field(default_factory=set)
    closed: int = 0

    def is_answered(self) -> bool:
        """Whether nothing is under way."""
        return not any(caller.waiting for caller in self.callers)

    @property
    def outcomes(self) -> Counter[str]:
        """Windows, and failures by errno, reason and the hcall's code where one was the cause."""
        found = Counter({OPENED: len(self.opened)})
        for reply in self.failures:
            assert isinstance(reply, OsFailure), reply
            found[" ".join(filter(None, (str(reply.reason), reply.hcall.name if reply.hcall else "")))] += 1
        return found

    def devices(self) -> None:
        """Open the device, which takes no credit."""
        for caller in self.callers:
            for _ in range(self.each):
                caller.call(OpenDevice(), self._device(caller))

    def windows(self) -> None:
        """Every VAS_TX_WIN_OPEN at once."""
        for caller, descriptor in self.descriptors:
            caller.call(TxWinOpen(descriptor=descriptor, vas_id=0), self._window)

    def close(self) -> None:
        """Every descriptor at once."""
        for caller, descriptor in self.descriptors:
            caller.call(CloseDescriptor(descriptor=descriptor), self._closed)

    def _device(self, caller: Caller) -> Heard:
        def heard(reply: Reply | Refused) -> None:
            assert isinstance(reply, DeviceOpened), reply
            self.descriptors.append((caller, reply.descriptor))

        return heard

    def _window(self, reply: Reply | Refused) -> None:
        if isinstance(reply, WindowOpened):
            self.opened.add(reply.window_id)
        else:
            self.failures.append(reply)

    def _closed(self, reply: Reply | Refused) -> None:
        assert isinstance(reply, Done), reply
        self.closed += 1


@dataclass
class Rounds:
    """A client that opens a device and a window, closes both, and begins again, so many times."""

    caller: Caller
    left: int
    done: int = 0

    def begin(self) -> None:
        if self.left:
            self.left -= 1
            self.caller.call(OpenDevice(), self._device)

    def _device(self, reply: Reply | Refused) -> None:
        assert isinstance(reply, DeviceOpened), reply
        descriptor = reply.descriptor

        def window(outcome: Reply | Refused) -> None:
            assert isinstance(outcome, WindowOpened), outcome
            self.caller.call(CloseDescriptor(descriptor=descriptor), self._closed)

        self.caller.call(TxWinOpen(descriptor=descriptor, vas_id=0), window)

    def _closed(self, reply: Reply | Refused) -> None:
        assert isinstance(reply, Done), reply
        self.done += 1
        self.begin()


def run_rounds(callers: Sequence[Caller], total: int, depth: int) -> tuple[list[Rounds], Callable[[], bool]]:
    """Begin so many opens and closes in all, `depth` at a time with each client; and whether they are over."""
    each, rest = divmod(total, len(callers) * depth)
    every = [Rounds(caller, each + (number < rest)) for number, caller in enumerate(list(callers) * depth)]
    for rounds in every:
        rounds.begin()
    return every, lambda: sum(rounds.done for rounds in every) == total
