"""The telemetry stream's order: whatever is lost, repeated, late or restarted, a snapshot makes the state right."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmc.stream import GAPS_LIMIT, HELD_LIMIT, Arrival, TelemetryStream

Change = tuple[str, int]


@dataclass
class Hypervisor:
    """Counts something and publishes each change."""

    pid: int
    at_us: int
    number: int = 0
    values: dict[str, int] = field(default_factory=dict)

    def change(self, key: str, value: int, apart_us: int) -> Arrival[Change]:
        self.number += 1
        self.at_us += apart_us
        self.values[key] = value
        return Arrival(self.number, self.at_us, (key, value))


class Observer:
    """A stream with the state that it keeps."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self.heard: list[Change] = []
        self.stream: TelemetryStream[Change] = TelemetryStream(self.apply, self.heard.append)

    def apply(self, change: Change) -> None:
        self.values[change[0]] = change[1]

    def snapshot(self, hypervisor: Hypervisor) -> None:
        self.answer(hypervisor.number, hypervisor.pid, dict(hypervisor.values))

    def answer(self, sequence: int, pid: int, values: dict[str, int]) -> None:
        def replace() -> None:
            self.values = values

        self.stream.snapshot(sequence, pid, replace)

    def mend(self, hypervisor: Hypervisor) -> None:
        self.stream.ask()
        self.snapshot(hypervisor)


def started() -> tuple[Hypervisor, Observer]:
    hypervisor, observer = Hypervisor(pid=1, at_us=1000), Observer()
    observer.mend(hypervisor)
    return hypervisor, observer


def test_messages_in_order_need_no_second_snapshot() -> None:
    hypervisor, observer = started()
    for value in range(10):
        observer.stream.arrive(hypervisor.change("a", value, 5))
    assert observer.values == hypervisor.values
    assert observer.stream.is_whole
    assert not observer.stream.wants_snapshot
    assert len(observer.heard) == 10


def test_a_gap_is_counted_and_mended_by_a_snapshot() -> None:
    hypervisor, observer = started()
    observer.stream.arrive(hypervisor.change("a", 1, 5))
    for value in range(3):
        hypervisor.change("b", value, 5)
    observer.stream.arrive(hypervisor.change("a", 2, 5))
    stream = observer.stream
    assert (stream.lost, stream.mended, stream.wants_snapshot, stream.is_whole) == (3, 0, True, False)
    observer.mend(hypervisor)
    assert (stream.lost, stream.mended, stream.wants_snapshot, stream.is_whole) == (3, 3, False, True)
    assert observer.values == {"a": 2, "b": 2}


def test_a_snapshot_from_before_the_gap_does_not_mend_it() -> None:
    hypervisor, observer = started()
    observer.stream.ask()
    sequence, values = hypervisor.number, dict(hypervisor.values)
    hypervisor.change("b", 7, 5)
    observer.stream.arrive(hypervisor.change("a", 1, 5))
    observer.answer(sequence, 1, values)
    assert observer.stream.wants_snapshot
    assert (observer.stream.lost, observer.stream.mended) == (1, 0)
    observer.mend(hypervisor)
    assert observer.values == {"a": 1, "b": 7}


def test_messages_that_a_snapshot_includes_already_are_heard_but_not_applied() -> None:
    hypervisor, observer = started()
    first, second = hypervisor.change("a", 1, 5), hypervisor.change("a", 2, 5)
    observer.mend(hypervisor)
    observer.stream.arrive(first)
    assert observer.values == {"a": 2}
    observer.stream.arrive(second)
    assert observer.heard == [("a", 1), ("a", 2)]
    assert observer.values == {"a": 2}
    assert observer.stream.lost == 0


def test_what_came_while_the_snapshot_was_made_does_not_undo_it() -> None:
    hypervisor, observer = started()
    observer.stream.ask()
    observer.stream.arrive(hypervisor.change("a", 1, 5))
    hypervisor.change("a", 2, 5)
    observer.snapshot(hypervisor)
    assert observer.values == {"a": 2}


def test_a_lost_last_message_is_found_by_the_snapshot_after_the_next() -> None:
    hypervisor, observer = started()
    hypervisor.change("a", 1, 5)
    observer.mend(hypervisor)
    assert observer.values == {"a": 1}
    assert observer.stream.lost == 0
    observer.mend(hypervisor)
    assert (observer.stream.lost, observer.stream.mended) == (1, 1)


def test_repeats_and_late_messages_are_ignored() -> None:
    hypervisor, observer = started()
    messages = [hypervisor.change("a", value, 5) for value in range(5)]
    for message in [messages[0], messages[2], messages[1], messages[2], messages[3], messages[4], messages[4]]:
        observer.stream.arrive(message)
    assert (observer.stream.lost, observer.stream.ignored) == (1, 3)
    assert observer.values == {"a": 4}


@pytest.mark.parametrize("pid", [1, 2], ids=["same pid", "other pid"])
def test_a_restart_is_recognised_when_the_numbers_begin_again(pid: int) -> None:
    """In containers the new hypervisor may have the pid of the old one."""
    hypervisor, observer = started()
    for value in range(20):
        observer.stream.arrive(hypervisor.change("a", value, 5))
    successor = Hypervisor(pid=pid, at_us=hypervisor.at_us + 1000)
    observer.stream.arrive(successor.change("b", 1, 5))
    assert observer.stream.wants_snapshot
    observer.mend(successor)
    assert observer.values == {"b": 1}
    assert observer.stream.restarts == 1
    observer.stream.arrive(successor.change("b", 2, 5))
    assert observer.values == {"b": 2}
    assert observer.stream.is_whole


def test_a_restart_without_any_message_is_recognised_by_the_snapshot() -> None:
    hypervisor, observer = started()
    observer.stream.arrive(hypervisor.change("a", 1, 5))
    successor = Hypervisor(pid=2, at_us=hypervisor.at_us + 1000, values={"a": 9})
    observer.mend(successor)
    assert (observer.stream.restarts, observer.values) == (1, {"a": 9})


def test_the_answer_of_the_old_hypervisor_does_not_pass_for_the_new_ones() -> None:
    hypervisor, observer = started()
    for value in range(20):
        observer.stream.arrive(hypervisor.change("a", value, 5))
    observer.stream.ask()
    successor = Hypervisor(pid=2, at_us=hypervisor.at_us + 1000)
    observer.stream.arrive(successor.change("b", 1, 5))
    observer.snapshot(hypervisor)
    assert observer.stream.wants_snapshot
    assert not observer.stream.is_whole
    observer.mend(successor)
    assert (observer.values, observer.stream.restarts) == ({"b": 1}, 1)


def test_what_is_held_and_the_gaps_that_are_told_apart_are_bounded() -> None:
    hypervisor, observer = started()
    for _ in range(3 * GAPS_LIMIT):
        hypervisor.change("lost", 0, 5)
        observer.stream.arrive(hypervisor.change("a", 1, 5))
    observer.stream.ask()
    sequence, values = hypervisor.number, dict(hypervisor.values)
    for value in range(HELD_LIMIT + 10):
        observer.stream.arrive(hypervisor.change("a", value, 5))
    observer.answer(sequence, 1, values)
    assert observer.stream.wants_snapshot
    observer.mend(hypervisor)
    assert observer.stream.lost == observer.stream.mended == 3 * GAPS_LIMIT
    assert observer.values == hypervisor.values


@given(seed=st.integers(0, 2**32), loss=st.floats(0, 0.9), twice=st.floats(0, 0.5), late=st.floats(0, 0.5))
@settings(max_examples=300, deadline=None)
def test_after_mending_the_state_is_the_truth(seed: int, loss: float, twice: float, late: float) -> None:
    """Any pattern of loss, repeats and lateness, with snapshots asked for and answered at any time."""
    random = Random(seed)
    hypervisor, observer = started()
    delayed: list[Arrival[Change]] = []
    asked: tuple[int, int, dict[str, int]] | None = None
    came: set[int] = set()
    for _ in range(random.randint(1, 120)):
        message = hypervisor.change(random.choice("abcd"), random.randint(0, 9), random.choice([0, 0, 5]))
        for _copy in range((random.random() >= loss) * (1 + (random.random() < twice))):
            if random.random() < late:
                delayed.append(message)
            else:
                observer.stream.arrive(message)
                came.add(message.number)
        if delayed and random.random() < 0.3:
            observer.stream.arrive(delayed.pop(random.randrange(len(delayed))))
        if asked is None and random.random() < 0.15:
            observer.stream.ask()
            asked = (hypervisor.number, hypervisor.pid, dict(hypervisor.values))
        elif asked is not None and random.random() < 0.3:
            observer.answer(*asked)
            asked = None
    if asked is not None:
        observer.answer(*asked)
    for _ in range(3):
        observer.mend(hypervisor)
    assert observer.values == hypervisor.values
    stream = observer.stream
    assert (stream.is_whole, stream.restarts, stream.wants_snapshot) == (True, 0, False)
    assert stream.lost == stream.mended
    assert len(observer.heard) + stream.lost == hypervisor.number
    observer.stream.arrive(hypervisor.change("next", 1, 5))
    assert observer.values == hypervisor.values


@given(seed=st.integers(0, 2**32), loss=st.floats(0, 0.9), same_pid=st.booleans())
@settings(max_examples=300, deadline=None)
def test_after_restarts_the_state_is_the_last_hypervisors(seed: int, loss: float, same_pid: bool) -> None:
    random = Random(seed)
    hypervisor, observer = started()
    past: list[Arrival[Change]] = []
    for incarnation in range(random.randint(1, 4)):
        if incarnation:
            pid = 1 if same_pid else 1 + incarnation
            hypervisor = Hypervisor(pid, at_us=hypervisor.at_us + 1000)
        for _ in range(random.randint(0, 60)):
            message = hypervisor.change(random.choice("abcd"), random.randint(0, 9), random.choice([0, 5]))
            past.append(message)
            if random.random() >= loss:
                observer.stream.arrive(message)
            if random.random() < 0.1:
                observer.stream.arrive(random.choice(past))
            if random.random() < 0.1:
                observer.mend(hypervisor)
    for _ in range(4):
        observer.mend(hypervisor)
    assert observer.values == hypervisor.values
    assert observer.stream.is_whole
    observer.stream.arrive(hypervisor.change("next", 1, 5))
    assert observer.values == hypervisor.values
