"""A network whose faults are aimed: at one message type of one link in one direction, at a link, or at everything.

What is lost here is lost although its connection lives, and what is reordered overtakes within one connection. ZeroMQ
does neither; a connection that breaks and is made anew does both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any, Protocol

import msgpack

from lpar.client.links import link_of
from protocol.effects import DIALLED, Send
from protocol.link import LINKS, TELEMETRY
from protocol.system import SystemSettings
from protocol.wire import WIRE_VERSION, Envelope, WireError, decode, encode
from tests.system.system import LATENCY_US, Connection, Host, System

REORDER_WAIT_US = 20_000
"""How long a message waits to be overtaken, if nothing comes."""
DELAY_US = 300_000
"""Less than the first repeat of a request."""
OVERDUE_US = 900_000
"""More: the original arrives after its repeat."""
NOBODYS_NUMBER = 1 << 40


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A message type on one link in one direction."""

    link: str
    direction: Direction
    type: str

    def __str__(self) -> str:
        return f"{self.link}-{self.direction}-{self.type}"


def every_kind() -> list[Kind]:
    """All that may ever be said on any link."""
    return sorted(
        Kind(link.name, direction, name)
        for link in LINKS.values()
        for direction, vocabulary in ((Direction.UP, link.up), (Direction.DOWN, link.down))
        for name in vocabulary.names
    )


class Treatment(StrEnum):
    """What the network does to a message."""

    LOST = "lost"
    REPEATED = "repeated"
    DELAYED = "delayed"
    OVERDUE = "overdue"
    REORDERED = "reordered"


LATE_US = {Treatment.DELAYED: DELAY_US, Treatment.OVERDUE: OVERDUE_US}


class Fault(Protocol):
    """Something wrong with the network."""

    def treat(self, kind: Kind, occurrence: int, now_us: int) -> Treatment | None:
        """What becomes of the message, the `occurrence`th of its kind, from 0; None: this fault spares it."""


@dataclass(frozen=True, slots=True)
class OneByOne:
    """Treatments for as many messages of one kind, one each, from the `first` on."""

    kind: Kind
    first: int
    treatments: tuple[Treatment, ...]

    def treat(self, kind: Kind, occurrence: int, now_us: int) -> Treatment | None:
        place = occurrence - self.first
        hit = kind == self.kind and 0 <= place < len(self.treatments)
        return self.treatments[place] if hit else None


@dataclass(slots=True)
class ForAWhile:
    """One treatment for all messages of one kind, from the `first` on, for so long."""

    kind: Kind
    first: int
    treatment: Treatment
    duration_us: int
    until_us: int | None = None

    def treat(self, kind: Kind, occurrence: int, now_us: int) -> Treatment | None:
        if kind != self.kind or occurrence < self.first:
            return None
        if self.until_us is None:
            self.until_us = now_us + self.duration_us
        return self.treatment if now_us < self.until_us else None


@dataclass(frozen=True, slots=True)
class Cut:
    """A link on which nothing gets through from a moment on, in some directions, for so long."""

    link: str
    directions: tuple[Direction, ...]
    from_us: int
    duration_us: int

    def treat(self, kind: Kind, occurrence: int, now_us: int) -> Treatment | None:
        hit = kind.link == self.link and kind.direction in self.directions
        return Treatment.LOST if hit and self.from_us <= now_us < self.from_us + self.duration_us else None


@dataclass(slots=True)
class Storm:
    """Every treatment, of any message, at random."""

    seed: int
    share: float
    random: Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def treat(self, kind: Kind, occurrence: int, now_us: int) -> Treatment | None:
        return self.random.choice(list(Treatment)) if self.random.random() < self.share else None


class FaultyNetwork(System):
    """A system on such a network. `said` counts what was sent of each kind; `hit` what a fault was aimed at.

    `telemetry` takes what reaches an observer of the hypervisor.
    """

    def __init__(self, settings: SystemSettings, seed: int, faults: Sequence[Fault] = ()) -> None:
        self.faults = list(faults)
        self.said: Counter[Kind] = Counter()
        self.hit: Counter[Treatment] = Counter()
        self.published: list[Envelope] = []
        self.telemetry: list[Envelope] = []
        self._latency = Random(seed)
        self._overtaken: dict[tuple[bytes, bool], list[Callable[[], None]]] = {}
        super().__init__(settings, seed)

    def settle(self, host: Host) -> None:
        """The end of a turn; what it published leaves for the observer."""
        published = list(host.core.effects.published)
        super().settle(host)
        for envelope in published:
            self.published.append(envelope)
            told = decode(encode(envelope), TELEMETRY.down)
            kind = Kind(TELEMETRY.name, Direction.DOWN, told.body.type)
            self._carry(kind, b"", True, lambda told=told: self.telemetry.append(told))  # type: ignore[misc]

    def unreadable(self, host: Host, key: str) -> None:
        """A message of a type that nobody knows reaches a listener; its shell refuses it, as protocol/node.py does."""
        peer = host.connections[key]
        connection = self.connections[peer]
        found = self._listener(connection.endpoint)
        assert found is not None
        head = {"v": WIRE_VERSION, "type": "?", "epoch": 0, "number": NOBODYS_NUMBER, "acked": 0, "body": {}}
        try:
            decode([msgpack.packb(head)], LINKS[found[1]].up)
        except WireError as error:
            self._transmit(peer, connection, Send(found[1], peer, Envelope(error.refusal, error.epoch, error.number)))

    def _transmit(self, peer: bytes, connection: Connection, send: Send) -> None:
        upwards = send.peer == DIALLED
        spoken = link_of(connection.key) if upwards else LINKS[send.link]
        frames = encode(send.envelope)
        vocabulary = spoken.up if upwards else spoken.down
        direction = Direction.UP if upwards else Direction.DOWN

        def arrive() -> None:
            if self.connections.get(peer) is connection:
                self._deliver(peer, connection, upwards=upwards, envelope=decode(frames, vocabulary))

        kind = Kind(spoken.name, direction, send.envelope.body.type)
        self._carry(kind, peer, upwards, arrive)

    def _carry(self, kind: Kind, peer: bytes, upwards: bool, arrive: Callable[[], Any]) -> None:
        """Let a message arrive when and as often as the faults have it, and what waited to be overtaken after it."""
        occurrence = self.said[kind]
        self.said[kind] += 1
        treatments = (fault.treat(kind, occurrence, self.now_us) for fault in self.faults)
        treatment = next((found for found in treatments if found is not None), None)
        latency_us = self._latency.randint(*LATENCY_US)
        if treatment is not None:
            self.hit[treatment] += 1
        if treatment is Treatment.REORDERED:
            self._await_overtaking((peer, upwards), arrive)
            return
        if treatment is not Treatment.LOST:
            late_us = 0 if treatment is None else LATE_US.get(treatment, 0)
            self.later(latency_us + late_us, arrive)
        if treatment is Treatment.REPEATED:
            self.later(latency_us + 1, arrive)
            self.later(latency_us + OVERDUE_US, arrive)
        for overtaken in self._overtaken.pop((peer, upwards), ()):
            self.later(latency_us + 1, overtaken)

    def _await_overtaking(self, where: tuple[bytes, bool], arrive: Callable[[], Any]) -> None:
        arrived = False

        def once() -> None:
            nonlocal arrived
            if not arrived:
                arrived = True
                arrive()

        self._overtaken.setdefault(where, []).append(once)
        self.later(REORDER_WAIT_US, once)
