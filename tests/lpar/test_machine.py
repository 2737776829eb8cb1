"""Thousands of random sequences of what users and administrators do, against the lists of domain.md."""

from __future__ import annotations

import pytest

from protocol.system import ReopenPolicy
from tests.fidelity.rows import fidelity
from tests.lpar.random_story import Genre, Operation, reached
from tests.lpar.sequence import Twins

SEQUENCES = 700
SOAK_SEQUENCES = 20_000

OPERATIONS: dict[Operation, int] = {
    Twins.open: 4,
    Twins.open_three: 4,
    Twins.begin_open: 2,
    Twins.finish_open: 2,
    Twins.map: 2,
    Twins.paste: 2,
    Twins.close: 3,
    Twins.close_a_closed_window: 1,
    Twins.exit: 1,
    Twins.remove: 3,
    Twins.add: 3,
    Twins.qos: 3,
    Twins.suspend: 2,
    Twins.resume: 3,
}
"""What happens, and how often."""
KERNEL = Genre(OPERATIONS)
FAILING = Genre(OPERATIONS, failing=True)
EAGER = Genre(OPERATIONS | {Twins.a_second_passes: 2}, ReopenPolicy.EAGER, failing=True)

KERNEL_STATES = {
    "both flags",
    "one of two flags cleared",
    "stranded credits",
    "open refused although a credit is idle",
    "open in flight overtakes a removal",
    "skip jumps over windows that the credits would do for",
    "suspended with an open half done",
    "resume stops midway",
    "total without credits for all that resumed",
}
FAILING_STATES = KERNEL_STATES | {
    "flagged but not counted",
    "negative counter of closed windows",
    "removal flags a window that a migration closed",
    "skip counts open windows",
    "modify fails while reopening",
    "window left behind in the hypervisor",
    "window leaked",
    "query fails in a migration",
}
EAGER_STATES = FAILING_STATES | {"eager reopening", "eager reopening tried again"}


@fidelity(
    "5 reconfigure",
    "Lists, flags, counters and the order of hcalls follow from the events alone, in whatever order processes, "
    "administrators and migrations cause them, and whichever hcall fails.",
    source="K:vas.c",
)
def test_random_sequences_leave_the_kernels_lists() -> None:
    assert reached(KERNEL, range(SEQUENCES)).keys() >= KERNEL_STATES


@fidelity(
    "5 reconfigure",
    "Lists, flags, counters and the order of hcalls follow from the events alone, in whatever order processes, "
    "administrators and migrations cause them, and whichever hcall fails.",
    source="K:vas.c",
)
def test_random_sequences_with_failing_hcalls_leave_the_kernels_lists() -> None:
    assert reached(FAILING, range(SEQUENCES)).keys() >= FAILING_STATES


def test_random_sequences_with_eager_reopening_leave_the_models_lists() -> None:
    assert reached(EAGER, range(SEQUENCES)).keys() >= EAGER_STATES


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("genre", [FAILING, EAGER], ids=["kernel", "eager"])
def test_many_more_random_sequences_leave_the_models_lists(genre: Genre) -> None:
    seeds = range(SEQUENCES, SEQUENCES + SOAK_SEQUENCES)
    assert reached(genre, seeds).keys() >= FAILING_STATES
