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
from protocol.dialer import HELLO_REPEAT_US
from protocol.system import parse_system
from tests.failures.rows import failure
from tests.system.aftermath import Outcome, play
from tests.system.everything import LPARCFG, PAGED_OUT, REQUEST, SETTINGS, STORIES, World
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
def undisturbed(story: str) -> Outcome:
    """What a story leaves without faults."""
    return play(STORIES[story], [])[0]


def stories_with(kind: Kind) -> list[str]:
    return [story for story in STORIES if undisturbed(story).said[kind]]


def assert_same(story: str, came: Outcome) -> None:
    """Told, left and done as without faults. Fails with the lines that differ."""
    expected = undisturbed(story)
    lines = list(unified_diff(list(_lines(expected)), list(_lines(came)), "without faults", "with faults", "", "", 0))
    assert not lines, f"{story}\n" + "\n".join(lines[:20])
    anew = expected.requests.keys() ^ came.requests.keys()
    assert not anew, f"{story}: {', '.join(sorted(anew))} got a new session"
    assert came.requests == expected.requests, f"{story}: a request was counted twice, or not at all"


def _lines(outcome: Outcome) -> Iterator[str]:
    yield from (f"told {position}: {answer}" for position, answer in enumerate(outcome.told))
    yield from (f"{name}: {left}" for name, left in sorted(outcome.state.items()))
    for name, events in sorted(outcome.history.items()):
        yield from (f"{name}: {event}" for event in events)


def survive(story: str, faults: list[Fault], late_us: int, aimed: tuple[Treatment, ...] = ()) -> None:
    """A story among faults comes to the same end, at most so much later; each of `aimed` befell some message."""
    outcome, system = play(STORIES[story], faults)
    assert system.hit, "no fault hit anything"
    assert not set(aimed) - set(system.hit), f"hit by {dict(system.hit)} alone"
    assert_same(story, outcome)
    took_us = outcome.lasted_us - undisturbed(story).lasted_us
    assert took_us <= late_us, f"{story} took {took_us / 1e6:g} s longer"


def test_every_type_of_every_link_is_said_in_some_story() -> None:
    said = {kind for story in STORIES for kind in undisturbed(story).said}
    assert said == set(KINDS)


@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("story", STORIES)
def test_speed_alone_changes_nothing(story: str, seed: int) -> None:
    assert_same(story, play(STORIES[story], [], seed)[0])


@failure(
    "network",
    "messages of any one type lost, repeated, delayed or reordered, once or for a while",
    seen="Calls take longer; what they answer is the same.",
    lasts="Until the next repeat: 0.5 s after the first sending, at most 4 s after a later one.",
    kept="Every window, credit, status and request, also across repeats: nothing is done twice.",
)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_any_type_may_go_wrong(kind: Kind) -> None:
    """One of the kind lost, or repeated, delayed, overdue or reordered, in turn in each story that says it."""
    random = Random(str(kind))
    stories = stories_with(kind)
    for place, treatment in enumerate(Treatment):
        story = stories[place % len(stories)]
        first = random.randrange(undisturbed(story).said[kind])
        survive(story, [OneByOne(kind, first, (treatment,))], WHILE_US + REPEATS_US, (treatment,))
    survive(story, [ForAWhile(kind, first, Treatment.LOST, WHILE_US)], WHILE_US + REPEATS_US, (Treatment.LOST,))


@pytest.mark.parametrize("story", STORIES)
def test_pastes_may_go_wrong_in_every_way_one_after_the_other(story: str) -> None:
    """The first is lost, the next repeated, delayed, overdue and reordered: also where each is a repeat of the last."""
    for kind in (kind for kind in KINDS if kind.link == "paste" and undisturbed(story).said[kind]):
        survive(story, [OneByOne(kind, 0, tuple(Treatment))], WHILE_US + REPEATS_US)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("story", STORIES)
def test_any_type_may_go_wrong_in_any_way_at_several_moments(story: str) -> None:
    """Each treatment alone, once and for a while, at the first occurrence, the last and some between."""
    for kind, count in undisturbed(story).said.items():
        random = Random(f"{story} {kind}")
        for first in {0, count - 1, random.randrange(count), random.randrange(count)}:
            for treatment in Treatment:
                survive(story, [OneByOne(kind, first, (treatment,))], WHILE_US + REPEATS_US)
                survive(story, [ForAWhile(kind, first, treatment, WHILE_US)], WHILE_US + REPEATS_US)


@failure(
    "network",
    "a fifth of all messages lost, repeated, delayed or reordered, on every link at once",
    seen="Calls take longer; what they answer is the same.",
    lasts="As long as the weather and the next repeats.",
    kept="Every window, credit and status; no session ends.",
)
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


@failure(
    "network",
    "a link cut, both ways or one way, for less than its lease",
    seen="What needs the link waits; nothing is refused that would not have been, and nothing else changes.",
    lasts="The cut and the next repeat, at most 4 s later.",
    kept="Every window, credit, descriptor and request; what happened is the same but for its times.",
)
@pytest.mark.parametrize("link", CUTS_US)
def test_a_link_cut_for_less_than_a_lease_costs_time_and_nothing_else(link: str, figure: Figure) -> None:
    later_us = 0
    for story in STORIES:
        for ways in WAYS:
            outcome = cut(story, link, ways, 0)
            assert_same(story, outcome)
            later_us = max(later_us, outcome.lasted_us - undisturbed(story).lasted_us)
    assert CUTS_US[link] / 2 < later_us <= CUTS_US[link] + REPEATS_US, "some story waits for any link"
    figure(f"{link} cut for {CUTS_US[link] / 1e6:g} s: stories take longer by at most", later_us / 1e6, "s")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("link", CUTS_US)
def test_a_link_cut_at_many_moments(link: str) -> None:
    for story in STORIES:
        for ways in WAYS:
            for seed in range(1, 50):
                assert_same(story, cut(story, link, ways, seed))


def cut(story: str, link: str, ways: tuple[Direction, ...], seed: int) -> Outcome:
    """A story during which a link is cut for as long as its leases take it."""
    offset_us = Random(f"{story} {link} {seed}").randint(0, undisturbed(story).lasted_us // 2)

    def aim(system: FaultyNetwork) -> None:
        system.faults.append(Cut(link, ways, system.now_us + offset_us, CUTS_US[link]))

    return play(STORIES[story], [], 1, aim)[0]


@failure(
    "network",
    "an NX unit cut off from the hypervisor for less than its fence",
    seen="Pastes go on. A close, or a status block of an absent page, waits; new windows go to other units.",
    lasts="The cut and the next repeat, at most 4 s later.",
    kept="Its windows, and its requests; the same paste addresses work throughout.",
)
def test_a_unit_cut_off_for_less_than_its_fence_goes_on_working(figure: Figure) -> None:
    cut_us = (TIMES.fence_ms - TIMES.beat_ms) * MILLISECOND_US - HELLO_REPEAT_US
    worked_us: list[int] = []

    def story(world: World, for_us: int) -> None:
        system, client = world.system, world.client("lp1")
        for _ in range(3):
            world.open(client, "lp1")
        windows = world.windows["lp1"]
        system.faults.append(Cut("fabric", WAYS[-1], system.now_us, for_us))
        for window in windows:
            began_us = system.now_us
            world.note(lambda window=window: window.run(REQUEST))  # type: ignore[misc]
            worked_us.append(system.now_us - began_us)
        world.note(lambda: windows[0].run(PAGED_OUT).code)
        world.note(windows[1].close)

    whole, _ = play(lambda world: story(world, 0), [])
    came, _ = play(lambda world: story(world, cut_us), [])
    assert list(_lines(came)) == list(_lines(whole))
    assert came.lasted_us <= cut_us + REPEATS_US
    assert max(worked_us) < 10 * MILLISECOND_US, "a paste does not need the hypervisor"
    figure("cut for", cut_us / 1e6, "s")
    figure("a paste meanwhile took at most", max(worked_us) / 1e3, "ms")


@failure(
    "network",
    "a partition cut off from the hypervisor for less than its lease",
    seen="Pastes, page faults and files go on; opens, closes and changes of credits wait.",
    lasts="The cut and the next repeat, at most 4 s later.",
    kept="Its session, its windows and its clients.",
)
def test_a_partition_cut_off_for_less_than_its_lease_goes_on_working(figure: Figure) -> None:
    worked_us: list[int] = []

    def story(world: World, for_us: int) -> None:
        system, client = world.system, world.client("lp1")
        world.open(client, "lp1")
        window = world.windows["lp1"][0]
        area = window.map()
        system.faults.append(Cut("hcall", WAYS[-1], system.now_us, for_us))
        for work in (lambda: window.run(REQUEST), area.load, lambda: client.read(LPARCFG)):
            began_us = system.now_us
            world.note(work)
            worked_us.append(system.now_us - began_us)
        world.open(client, "lp1")

    whole, _ = play(lambda world: story(world, 0), [])
    came, _ = play(lambda world: story(world, CUTS_US["hcall"]), [])
    assert list(_lines(came)) == list(_lines(whole))
    assert came.lasted_us <= CUTS_US["hcall"] + REPEATS_US
    assert max(worked_us) < 10 * MILLISECOND_US, "none of it needs the hypervisor"
    figure("cut for", CUTS_US["hcall"] / 1e6, "s")
    figure("a paste, a fault or a read meanwhile took at most", max(worked_us) / 1e3, "ms")
