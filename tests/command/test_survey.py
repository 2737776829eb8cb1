"""What `vasbus status` says of a partition, from the hypervisor's word and the kernel's answer."""

from __future__ import annotations

import pytest

from protocol.console_messages import LparStatus
from vasbus.survey import KernelCounters, shown_state

ANSWERED = KernelCounters(40, 3, 0, 0)


def partition(state: str) -> LparStatus:
    numbers = dict.fromkeys(("cores", "hundredths", "home_chip", "epoch", "generation", "acknowledged", "pid"), 0)
    return LparStatus(name="lp1", state=state, mode="dedicated", endpoints={}, pools=(), **numbers)


def test_a_kernel_that_does_not_answer_is_not_shown_as_running() -> None:
    assert shown_state(partition("running"), ANSWERED) == "running"
    assert shown_state(partition("running"), None) == "unreachable"


@pytest.mark.parametrize("state", ["not_activated", "suspected", "recovering"])
def test_what_the_hypervisor_knows_better_is_shown(state: str) -> None:
    assert shown_state(partition(state), None) == state
