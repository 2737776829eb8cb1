"""QoS is guaranteed: no QoS paste with its window credit is refused for a full FIFO, whatever the others do."""

from __future__ import annotations

import pytest

from nxunit.fifo import Priority
from nxunit.statistics import RefusalCause
from protocol.codes import CreditType
from tests.fidelity.rows import fidelity
from tests.nxunit.bench import FENCE_US, Bench, everything, stopped

DEPTH = 4
DEFAULT_WINDOWS = range(1, 21)
QOS_WINDOWS = range(101, 121)


@pytest.fixture
def bench() -> Bench:
    bench = Bench(fifo_depth=DEPTH)
    for window_id in DEFAULT_WINDOWS:
        bench.program(window_id)
    for window_id in QOS_WINDOWS:
        bench.program(window_id, CreditType.QOS)
    return bench


def answers(bench: Bench, windows: range, number: int) -> list[str]:
    return [bench.paste(window_id, number)[0][0] for window_id in windows]


def high_slots(bench: Bench) -> int:
    return bench.unit.fifos.slots(Priority.HIGH)


@fidelity(
    "2 accelerator",
    "Default credits may be over-committed: a paste can be refused as busy although the partition has its credits.",
    source="K:vas.c",
)
@fidelity("2 accelerator", "A QoS request is always taken if nothing else is in flight on its window.", source="AIX-NA")
def test_over_committed_default_windows_come_back_refused_and_qos_windows_do_not(bench: Bench) -> None:
    assert answers(bench, DEFAULT_WINDOWS, 1) == ["accepted"] * DEPTH + ["refused"] * (20 - DEPTH)
    assert answers(bench, QOS_WINDOWS, 1) == ["accepted"] * 20
    assert bench.unit.statistics().refused == {RefusalCause.FIFO_FULL: 20 - DEPTH}
    for _ in QOS_WINDOWS:
        bench.work()
    assert bench.unit.statistics().normal_queued == DEPTH, "high priority went first"
    assert answers(bench, QOS_WINDOWS, 2) == ["accepted"] * 20


@fidelity("2 accelerator", "A QoS request is always taken if nothing else is in flight on its window.", source="AIX-NA")
def test_a_second_request_on_a_qos_window_is_refused_for_its_window_credit_only(bench: Bench) -> None:
    answers(bench, QOS_WINDOWS, 1)
    assert answers(bench, QOS_WINDOWS, 2) == ["refused"] * 20
    assert bench.unit.statistics().refused == {RefusalCause.NO_WINDOW_CREDIT: 20}


def test_repeats_take_no_other_windows_slot(bench: Bench) -> None:
    """A repeat of a completed request needs no window credit: all of them at once must leave room for the rest."""
    answers(bench, QOS_WINDOWS, 1)
    for _ in QOS_WINDOWS:
        bench.work()
    assert answers(bench, QOS_WINDOWS, 1) == ["accepted"] * 20
    assert answers(bench, QOS_WINDOWS, 2) == ["accepted"] * 20
    statistics = bench.unit.statistics()
    assert (statistics.high_queued, statistics.recomputed) == (40, 20)
    assert statistics.high_queued <= high_slots(bench)


@fidelity(
    "3 faults",
    "On a translation fault NX writes no status block, raises no completion interrupt and returns no window "
    "credit: system software owns the request.",
    source="UM p.46-47",
)
def test_a_translation_fault_holds_a_window_credit_and_no_slot(bench: Bench) -> None:
    for window_id in QOS_WINDOWS:
        bench.paste(window_id, 1)
        bench.work(stopped)
    assert bench.unit.statistics().high_queued == 0
    assert answers(bench, QOS_WINDOWS, 2) == ["refused"] * 20
    bench.give_back(101, 1)
    assert bench.paste(101, 3) == [("accepted", 3)]


@fidelity(
    "2 accelerator",
    "How deep the high-priority FIFO is, and how it is kept free for QoS, is not public.",
    source="UM p.28-30",
    differs="It has two slots for each QoS window of the unit, for a request and a repeat, and at least `fifo_depth`.",
)
def test_slots_follow_the_qos_windows_and_are_never_below_the_depth() -> None:
    bench = Bench(fifo_depth=DEPTH)
    assert high_slots(bench) == DEPTH
    bench.program(1, CreditType.QOS)
    assert high_slots(bench) == DEPTH
    bench.program(2, CreditType.QOS, window_credits=5)
    assert high_slots(bench) == 2 + 6
    bench.program(2, CreditType.QOS, window_credits=3)
    assert high_slots(bench) == 2 + 4
    bench.program(3)
    assert high_slots(bench) == 2 + 4
    bench.program(3, CreditType.QOS, token=b"another token 16", window_credits=2)
    assert high_slots(bench) == 2 + 4 + 3
    bench.program(3, token=b"another token 16")
    assert high_slots(bench) == 2 + 4
    bench.close(1)
    bench.program(4, CreditType.QOS)
    assert high_slots(bench) == 4 + 2
    bench.close(2)
    assert high_slots(bench) == DEPTH


def test_a_fence_takes_the_slots_with_the_contexts(bench: Bench) -> None:
    assert high_slots(bench) == 40
    bench.lose = everything
    bench.advance(FENCE_US // 1000 + 1_000, step_ms=500)
    assert high_slots(bench) == DEPTH
