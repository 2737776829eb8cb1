"""A real process around a trivial core: it counts requests, stores each count before it answers, and can be stopped.

As a program: ENDPOINT STORE MODE; it prints `ready` when it listens.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from protocol.clock import MILLISECOND_US, SECOND_US, earliest
from protocol.codes import ExitCode
from protocol.effects import Effects, Exit, Peer
from protocol.hcall_messages import Configuration
from protocol.listener import Listener
from protocol.node import Node, StoreError
from protocol.session import Called, Closed, Event, Terms
from protocol.session_messages import Hello, Refused
from protocol.wire import Envelope

SHORT = Terms(beat_us=100_000, suspect_us=300_000, lease_us=SECOND_US, drift_margin_us=100_000)
WIND_UP_US = 100 * MILLISECOND_US
QUIT = "quit"
"""Whoever says HELLO under this name ends the process."""


class FileStore:
    """One line per write, on the disk when `commit` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def commit(self, writes: Sequence[object]) -> None:
        with self.path.open("a") as lines:
            lines.writelines(f"{write}\n" for write in writes)
            lines.flush()
            os.fsync(lines.fileno())


class FullDisk:
    """A store that can hold nothing."""

    def commit(self, writes: Sequence[object]) -> None:
        raise StoreError("the disk is full")


class CountingCore:
    """Answers each request with how many there were. `stubborn` never finishes winding up.

    `announce` is called when the loop has begun: from then on signals are heeded.
    """

    def __init__(
        self, stubborn: bool = False, announce: Callable[[], None] = lambda: None, terms: Terms = SHORT
    ) -> None:
        self.effects = Effects()
        self.stubborn = stubborn
        self.announce = announce
        self.listener = Listener("hcall", terms, self.effects, os.urandom, self._admit)
        self.count = 0
        self.stop_due_us: int | None = None

    def start(self, now_us: int) -> None:
        self.announce()

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        self._handle(self.listener.receive(peer, envelope, now_us))

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        self.listener.unreachable(peer, now_us)

    def tick(self, now_us: int) -> None:
        self._handle(self.listener.tick(now_us))
        if self.stop_due_us is not None and now_us >= self.stop_due_us and not self.stubborn:
            self.effects.writes.append("wound up")
            self.effects.exit = Exit(ExitCode.OK, "stopped when asked to")

    def wake_us(self) -> int | None:
        return earliest(self.listener.wake_us(), None if self.stubborn else self.stop_due_us)

    def stop(self, now_us: int) -> None:
        self.effects.writes.append("stopping")
        self.stop_due_us = now_us + WIND_UP_US

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Called):
                self.count += 1
                self.effects.writes.append(f"counted {self.count}")
                self.listener.answer(event.session, event.number, Configuration(generation=self.count))
            elif isinstance(event, Closed):
                self.effects.writes.append(f"closed {event.session.name}: {event.ending}")

    def _admit(self, hello: Hello) -> Refused | None:
        if hello.name == QUIT:
            self.effects.exit = Exit(ExitCode.OK, "asked to quit")
        return None


def main() -> int:
    endpoint, store, mode = sys.argv[1:]
    core = CountingCore(mode == "stubborn", lambda: print("ready", flush=True))
    ending = Node(core, {"hcall": endpoint}, FileStore(Path(store))).run()
    print(ending.reason, flush=True)
    return int(ending.code)


if __name__ == "__main__":
    sys.exit(main())
