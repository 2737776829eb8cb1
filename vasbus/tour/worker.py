"""A client process of the tour: it holds windows, compresses on them in turn, and checks every byte.

    python -m vasbus.tour.worker LPAR DEVICE_ENDPOINT NETWORK zlib|lzo

Orders come as JSON lines on standard input, replies go to standard output.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from lpar.client import KernelFailure, Lpar, NxGzip
from protocol.codes import FallbackReason
from protocol.device_messages import OpenDevice, OsFailure, TxWinOpen
from protocol.wire import Envelope
from vasbus.target import client_keys
from vasbus.tour.orders import (
    ORDERS,
    Attempt,
    Close,
    Compress,
    Open,
    Order,
    Quit,
    Reply,
    Report,
    Rest,
    WindowReport,
    Work,
)

SHOWN = (OpenDevice, TxWinOpen, OsFailure)


@dataclass(slots=True)
class Slot:
    """One window with its NxGzip. `window_id` and `unit` are those it was opened with."""

    nx: NxGzip
    window_id: int
    unit: str


@dataclass(slots=True)
class Worker:
    """The process's windows and what it has done."""

    lpar: Lpar
    fallback: str
    slots: list[Slot] = field(default_factory=list)
    turn: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seen: list[str] = field(default_factory=list)

    def obey(self, order: Order) -> Reply:
        """Carry out one order."""
        self.counts.clear()
        match order:
            case Open(count=count):
                return self._reply(attempts=[self._open() for _ in range(count)])
            case Close(count=count):
                for _ in range(count):
                    self.slots.pop().nx.close()
            case Compress(paths=paths, rounds=rounds):
                for path in paths * rounds:
                    self._round_trip(path)
            case Work(paths=paths):
                self._work(paths)
            case Report():
                return self._reply(windows=[report(slot) for slot in self.slots])
            case Rest() | Quit():
                pass
        return self._reply()

    def note(self, direction: str, _connection: str, envelope: Envelope) -> None:
        """Remember messages that the tour may want to show."""
        if isinstance(envelope.body, SHOWN):
            body = envelope.body.model_dump(exclude={"type", "detail"}, exclude_defaults=True)
            facts = " ".join(f"{key}={_word(value)}" for key, value in body.items())
            arrow = "client -> kernel " if direction == "sent" else "kernel -> client "
            self.seen.append(f"{arrow} {envelope.body.type} {facts}".rstrip())

    def _open(self) -> Attempt:
        nx = NxGzip(self.lpar, fallback=self.fallback)
        try:
            nx.open()
        except KernelFailure as failure:
            hcall = failure.hcall.name if failure.hcall is not None else ""
            code = failure.errno or 0
            return Attempt(errno=errno.errorcode.get(code, str(code)), reason=str(failure.reason), hcall=hcall)
        address = nx.address
        assert address is not None, "a window that was just opened is mapped"
        self.slots.append(Slot(nx, address.window_id, address.unit))
        return Attempt(window_id=address.window_id)

    def _work(self, paths: list[str]) -> None:
        """Compress until an order waits and every window has had a turn."""
        turns = 0
        while turns < len(self.slots) or not order_waits():
            self._round_trip(paths[turns % len(paths)])
            turns += 1

    def _round_trip(self, path: str) -> None:
        """Compress a file on the next window, decompress it there, compare."""
        data = Path(path).read_bytes()
        slot = self.slots[self.turn % len(self.slots)]
        self.turn += 1
        packed = slot.nx.compress(data)
        if slot.nx.decompress(packed) != data:
            raise AssertionError(f"{path} came back changed from window {slot.window_id}")
        self.counts["files"] += 1
        self.counts["input_bytes"] += len(data)
        self.counts["output_bytes"] += len(packed)

    def _reply(self, attempts: list[Attempt] | None = None, windows: list[WindowReport] | None = None) -> Reply:
        seen, self.seen = self.seen, []
        return Reply(
            pid=os.getpid(),
            attempts=attempts or [],
            windows=windows or [],
            files=self.counts["files"],
            input_bytes=self.counts["input_bytes"],
            output_bytes=self.counts["output_bytes"],
            seen=seen,
        )


def report(slot: Slot) -> WindowReport:
    """What one window has done."""
    statistics = slot.nx.statistics()
    directions = (statistics.compress, statistics.decompress)
    software = {
        str(reason): amount
        for reason in FallbackReason
        if (amount := sum(direction.fallback[reason] for direction in directions))
    }
    return WindowReport(
        window_id=slot.window_id,
        unit=slot.unit,
        nx_bytes=sum(direction.nx_bytes for direction in directions),
        software_bytes=software,
        pastes=statistics.pastes,
        refused=statistics.refusals,
        faults=statistics.faults,
        remaps=statistics.remaps,
    )


def _word(value: object) -> object:
    """A code by its name."""
    return value.name if isinstance(value, Enum) else value


def order_waits() -> bool:
    """Whether a line can be read from standard input now."""
    return bool(select.select([sys.stdin.fileno()], [], [], 0)[0])


def read_order() -> Order | None:
    """The next order; None when the tour has gone. Unbuffered, so that `order_waits` tells the truth."""
    line = bytearray()
    while not line.endswith(b"\n"):
        more = os.read(sys.stdin.fileno(), 1)
        if not more:
            return None
        line += more
    return ORDERS.validate_json(bytes(line))


def main() -> None:
    """Obey until told to quit."""
    name, endpoint, network, fallback = sys.argv[1:5]
    worker: Worker | None = None

    def note(direction: str, connection: str, envelope: Envelope) -> None:
        if worker is not None:
            worker.note(direction, connection, envelope)

    with Lpar(endpoint, network, on_message=note, keys=client_keys(name)) as lpar:
        worker = Worker(lpar, fallback)
        while (order := read_order()) is not None:
            try:
                reply = worker.obey(order)
            except (OSError, AssertionError, ValueError) as error:
                reply = Reply(pid=os.getpid(), failure=f"{type(error).__name__}: {error}")
            if not isinstance(order, Rest):
                sys.stdout.write(reply.model_dump_json() + "\n")
                sys.stdout.flush()
            if isinstance(order, Quit):
                return


if __name__ == "__main__":
    main()
