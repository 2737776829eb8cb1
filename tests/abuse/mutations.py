"""Random and mutated frames: valid messages of every type with something changed. Seeded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgpack
from hypothesis import Phase, given, settings

from protocol.link import Link
from protocol.message import Message
from protocol.wire import Envelope, encode
from tests.protocol.messages import envelopes

Frames = list[bytes]
SAMPLES_EACH = 4
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, (1 << 32) - 1, -(1 << 63), (1 << 63) - 1, (1 << 64) - 1, 1.5, float("nan"), "",
    "lp1", "../../etc/passwd", "x" * 300, b"", bytes(16), b"\xff" * 40, [], [0] * 50, {}, {"type": "hello"},
)  # fmt: skip


def samples(model: type[Message]) -> list[Envelope]:
    """Some valid messages of a type, the same ones each time."""
    found: list[Envelope] = []

    @settings(max_examples=SAMPLES_EACH, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(envelopes(model))
    def collect(envelope: Envelope) -> None:
        found.append(envelope)

    collect()
    return found


def corpus(link: Link) -> list[Frames]:
    """Valid frames of every type that goes over the link, in either direction."""
    models = {*link.up.messages, *link.down.messages}
    return [encode(envelope) for model in sorted(models, key=lambda each: each.__name__) for envelope in samples(model)]


class Mutator:
    """An endless, seeded supply of bad and of valid but unwelcome messages for one link."""

    def __init__(self, link: Link, seed: int) -> None:
        self.random = random.Random(f"{seed} {link.name}")
        self.corpus = corpus(link)
        self.heads = [msgpack.unpackb(frames[0]) for frames in self.corpus]
        self.kinds = [head["type"] for head in self.heads]

    def messages(self, count: int) -> Iterator[Frames]:
        """The next ones."""
        ways = (self._bytes, self._bits, self._cut, self._spliced, self._frames, self._fields, self._replayed)
        for _ in range(count):
            yield self.random.choice(ways)()

    def _valid(self) -> Frames:
        return list(self.random.choice(self.corpus))

    def _bytes(self) -> Frames:
        return [self.random.randbytes(self.random.randrange(60)) for _ in range(self.random.randint(1, 4))]

    def _bits(self) -> Frames:
        frames = self._valid()
        head = bytearray(frames[0])
        for _ in range(self.random.randint(1, 4)):
            head[self.random.randrange(len(head))] ^= 1 << self.random.randrange(8)
        return [bytes(head), *frames[1:]]

    def _cut(self) -> Frames:
        frames = self._valid()
        return [frames[0][: self.random.randrange(len(frames[0]))], *frames[1:]]

    def _spliced(self) -> Frames:
        one, other = self._valid(), self._valid()
        return [one[0][: self.random.randrange(len(one[0]))] + other[0][self.random.randrange(len(other[0])) :]]

    def _frames(self) -> Frames:
        frames = self._valid()
        if len(frames) > 1 and self.random.random() < 0.5:
            return frames[:-1]
        return [*frames, *[b"more"] * self.random.randint(1, 20)]

    def _fields(self) -> Frames:
        """Another type or number, or one field with an odd value, out of place or left out."""
        place = self.random.randrange(len(self.corpus))
        head: dict[str, Any] = {**self.heads[place], "body": dict(self.heads[place]["body"])}
        part = self.random.choice([head, head["body"]])
        key = self.random.choice([*part, "colour"])
        if self.random.random() < 0.2:
            part.pop(key, None)
        elif key == "type":
            part[key] = self.random.choice(self.kinds)
        else:
            part[key] = self.random.choice(ODD_VALUES)
        return [msgpack.packb(head), *self.corpus[place][1:]]

    def _replayed(self) -> Frames:
        """A valid message as if of another session: small epochs and numbers are the likely ones."""
        place = self.random.randrange(len(self.corpus))
        small = [self.random.randrange(70) for _ in range(3)]
        head = {**self.heads[place], "epoch": small[0], "number": small[1], "acked": small[2]}
        return [msgpack.packb(head), *self.corpus[place][1:]]
