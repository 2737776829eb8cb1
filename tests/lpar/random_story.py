"""Random sequences of operations on a partition and its model, and the shortest one of those that fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from protocol.system import ReopenPolicy
from tests.lpar.sequence import Twins

STEPS = 45
FAILING = ["allocate", "allocate", "modify", "modify", "deallocate", "deallocate", "deallocate", "query"]
"""The hcalls that fail, and how often."""

Operation = Callable[[Any, int], None]
"""A method of the twins."""


@dataclass(frozen=True)
class Genre:
    """What stories are made of: operations by how often they happen, and whether hcalls fail in them."""

    operations: dict[Operation, int]
    policy: ReopenPolicy = ReopenPolicy.KERNEL
    failing: bool = False
    twins: type[Twins] = Twins


@dataclass(frozen=True)
class Step:
    """An operation, what it chooses, and which of its hcalls fails: the kind and how many of it succeed before."""

    operation: Operation
    choice: int
    failure: tuple[str, int] | None

    def __str__(self) -> str:
        failing = "" if self.failure is None else f", {self.failure[0]} fails after {self.failure[1]}"
        return f"{self.operation.__name__}({self.choice}){failing}"


@dataclass(frozen=True)
class Story:
    """A partition at its start, and what is done to it. `enforces`: its hypervisor grants up to the target only."""

    genre: Genre
    default: int
    qos: int
    enforces: bool
    steps: tuple[Step, ...]

    @classmethod
    def random(cls, seed: int, genre: Genre) -> Story:
        random = Random(f"{seed} {genre.policy} {genre.failing}")
        steps = []
        for operation in random.choices(list(genre.operations), list(genre.operations.values()), k=STEPS):
            fails = genre.failing and random.random() < 0.3
            failure = (random.choice(FAILING), random.choice((0, 0, 1, 2))) if fails else None
            steps.append(Step(operation, random.randrange(1 << 16), failure))
        return cls(genre, random.randint(2, 9), random.randint(0, 5), random.random() < 0.8, tuple(steps))

    def run(self) -> set[str]:
        """Compare both sides after each step; the rare states that the model came through."""
        twins = self.genre.twins(self.default, self.qos, self.genre.policy, enforces=self.enforces)
        for step in self.steps:
            twins.finish_old_opens()
            if step.failure is not None:
                twins.fail(*step.failure)
            step.operation(twins, step.choice)
            twins.fail_no_more()
            twins.compare()
        twins.compare_files()
        return twins.model.seen

    def fails(self) -> bool:
        try:
            self.run()
        except Exception:
            return True
        return False

    def shortest(self) -> Story:
        """A failing story without the steps that it fails without."""
        story, size = self, len(self.steps) // 2
        while size:
            places = range(0, len(story.steps), size)
            shorter = (replace(story, steps=story.steps[:at] + story.steps[at + size :]) for at in places)
            found = next((one for one in shorter if one.fails()), None)
            story, size = (story, size // 2) if found is None else (found, min(size, len(found.steps)))
        return story

    def __str__(self) -> str:
        credits = f"{self.default} default and {self.qos} QoS credits, enforced: {self.enforces}"
        return "\n".join([f"{self.genre.policy}, {credits}", *map(str, self.steps)])


def reached(genre: Genre, seeds: Iterable[int]) -> Counter[str]:
    """Run a random story for each seed; in how many of them each rare state was reached."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        story = Story.random(seed, genre)
        try:
            counts.update(story.run())
        except Exception:
            shortest = story.shortest()
            print(f"seed {seed}, {shortest}")
            shortest.run()
            raise
    return counts
