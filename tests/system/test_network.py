"""Whatever a network does to messages, what is left is what would be left without it, and callers are told the same.

Every type of every link in each direction is lost, repeated, delayed and reordered; links are cut, also one way; all of
it at once. The stories apply the same generations in the same order, so that outcomes can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import unified_diff
from functools import cache
from random import Random

import pytest

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.console_messages import ChangeProcessors
from protocol.dialer import HELLO_REPEAT_US
from protocol.system import parse_system
from tests.failures.rows import failure
from tests.system.everything import REQUEST, SETTINGS, STORIES, WAIT_MS, Outcome, World, play
from tests.system.network import (
    Cut,
    Direction,
    Fault,
    FaultyNetwork,
    ForAWhile,
    Kind,
    OneByOne,
    Storm,
    Treatment,
    every_kind,
)

Figure = Callable[[str, float, str], None]
NEVER_SAID = {Kind("telemetry", Direction.UP, "probe")}
"""A publisher hears nothing: the vocabulary only must not be empty."""
KINDS = [kind for kind in every_kind() if kind not in NEVER_SAID]
WHILE_US = 1_500 * MILLISECOND_US
"""Shorter than the suspicion of a unit, which new windows would avoid."""
REPEATS_US = 4 * SECOND_US
"""In the worst case a message is sent again for the last time before its type gets through, and twice as late then."""
TIMES = parse_system(SETTINGS, "network").times
WAYS = ((Direction.UP,), (Direction.DOWN,), (Direction.UP, Direction.DOWN))
CUTS_US = {
    "hcall": (TIMES.lpar_lease_ms - TIMES.beat_ms) * MILLISECOND_US - HELLO_REPEAT_US,
    "fabric": (TIMES.suspect_ms - TIMES.beat_ms) * MILLISECOND_US,
    "device": TIMES.client_lease_ms * MILLISECOND_US - HELLO_REPEAT_US,
    "hmc": TIMES.client_lease_ms * MILLISECOND_US - HELLO_REPEAT_US,
    "paste": 20 * SECOND_US,
}
"""The longest cuts that cost no session its lease, which runs from the last beat before; nor a unit its good name."""


@cache
def undisturbed(story: str) -> tuple[Outcome, dict[Kind, int]]:
    """What a story leaves without faults, and how often each kind was said in it."""
    outcome, system = play(STORIES[story], [])
    return outcome, dict(system.said)


def stories_with(kind: Kind) -> list[str]:
    return [story for story in STORIES if undisturbed(story)[1].get(kind)]


def assert_same(story: str, came: Outcome) -> None:
    """Told, left and done as without faults. Fails with the lines that differ."""
    expected = undisturbed(story)[0]
    lines = list(unified_diff(list(_lines(expected)), list(_lines(came)), "without faults", "with faults", "", "", 0))
    assert not lines, f"{story}\n" + "\n".join(lines[:20])


def _lines(outcome: Outcome) -> Iterator[str]:
    yield from (f"told {position}: {answer}" for position, answer in enumerate(outcome.told))
    yield from (f"{name}: {left}" for name, left in sorted(outcome.state.items()))
    for name, events in sorted(outcome.history.items()):
        yield from (f"{name}: {event}" for event in events)


def survive(story: str, faults: list[Fault], late_us: int) -> None:
    """A story among faults comes to the same end, at most so much later."""
    outcome, system = play(STORIES[story], faults)
    assert system.hit, "no fault hit anything"
    assert_same(story, outcome)
    took_us = outcome.lasted_us - undisturbed(story)[0].lasted_us
    assert took_us <= late_us, f"{story} took {took_us / 1e6:g} s longer"


def test_every_type_of_every_link_is_said_in_some_story() -> None:
    said = {kind for story in STORIES for kind in undisturbed(story)[1]}
    assert said == set(KINDS)


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("story", STORIES)
def test_speed_alone_changes_nothing(story: str, seed: int) -> None:
    assert_same(story, play(STORIES[story], [], seed)[0])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_any_type_may_go_wrong(kind: Kind) -> None:
    """One of the kind lost, the next repeated, delayed, overdue and reordered; or all of it lost for a while."""
    random = Random(str(kind))
    story = random.choice(stories_with(kind))
    first = random.randrange(undisturbed(story)[1][kind])
    survive(story, [OneByOne(kind, first, tuple(Treatment))], WHILE_US + REPEATS_US)
    survive(story, [ForAWhile(kind, first, Treatment.LOST, WHILE_US)], WHILE_US + REPEATS_US)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("story", STORIES)
def test_any_type_may_go_wrong_in_any_way_at_several_moments(story: str) -> None:
    """Each treatment alone, once and for a while, at the first occurrence, the last and some between."""
    for kind, count in undisturbed(story)[1].items():
        random = Random(f"{story} {kind}")
        for first in {0, count - 1, random.randrange(count), random.randrange(count)}:
            for treatment in Treatment:
                survive(story, [OneByOne(kind, first, (treatment,))], WHILE_US + REPEATS_US)
                survive(story, [ForAWhile(kind, first, treatment, WHILE_US)], WHILE_US + REPEATS_US)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("story", STORIES)
def test_everything_may_go_wrong_at_once(story: str, seed: int) -> None:
    assert_same(story, play(STORIES[story], [Storm(seed, share=0.2)], seed)[0])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("story", STORIES)
def test_everything_may_go_wrong_at_once_again_and_again(story: str) -> None:
    for seed in range(100, 1_100):
        assert_same(story, play(STORIES[story], [Storm(seed, share=0.05 + 0.3 * (seed % 10) / 10)], seed)[0])


def cut(story: str, link: str, ways: tuple[Direction, ...], seed: int) -> tuple[Outcome, FaultyNetwork]:
    """A story during which a link is cut for as long as its leases take it."""
    offset_us = Random(f"{story} {link} {seed}").randint(0, undisturbed(story)[0].lasted_us)

    def aim(system: FaultyNetwork) -> None:
        system.faults.append(Cut(link, ways, system.now_us + offset_us, CUTS_US[link]))

    return play(STORIES[story], [], 1, aim)
