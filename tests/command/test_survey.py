"""What `vasbus status` says of a partition, from the hypervisor's word and the kernel's answer."""

from __future__ import annotations

import pytest

from protocol.console_messages import LparStatus, SlotsStatus, SystemStatus
from vasbus.survey import KernelCounters, Survey, as_json, not_asked, shown_state, slots_line

ANSWERED = KernelCounters(40, 3, 0, 0)


def partition(state: str, endpoints: dict[str, str] | None = None) -> LparStatus:
    numbers = dict.fromkeys(("cores", "hundredths", "home_chip", "epoch", "generation", "acknowledged", "pid"), 0)
    return LparStatus(name="lp1", state=state, mode="dedicated", endpoints=endpoints or {}, pools=(), **numbers)


def test_a_kernel_that_does_not_answer_is_not_shown_as_running() -> None:
    assert shown_state(partition("running"), ANSWERED) == "running"
    assert shown_state(partition("running"), None) == "unreachable"


@pytest.mark.parametrize("state", ["not_activated", "suspected", "recovering"])
def test_what_the_hypervisor_knows_better_is_shown(state: str) -> None:
    assert shown_state(partition(state), None) == state


def surveyed(*lpars: LparStatus, slots: SlotsStatus | None = None) -> Survey:
    numbers = dict.fromkeys(("pid", "cores_total", "hundredths_free", "qos_total", "qos_free", "telemetry_sequence"), 0)
    system = SystemStatus(system="s", recovering=False, lpars=lpars, units=(), slots=slots, **numbers)
    return Survey("ipc:///hmc", "host", system, {lpar.name: None for lpar in lpars})


def test_a_kernel_that_is_on_other_networks_alone_is_shown_as_the_hypervisor_sees_it() -> None:
    far = partition("running", {"inside": "tcp://lp1:7101"})
    assert shown_state(far, None, "host") == "running"
    assert shown_state(far, None, "inside") == "unreachable"
    assert not_asked(surveyed(far)) == (["lp1"], {"inside"})
    assert not_asked(surveyed(partition("running", {"host": "tcp://x:1"}), partition("not_activated"))) == ([], set())


def test_free_slots_are_a_number_and_no_partitions() -> None:
    slots = SlotsStatus(template="lpar", count=8, claimed=3)
    assert slots_line(slots) == "slots: lpar 3 of 8 claimed"
    assert as_json(surveyed(slots=slots))["slots"] == {"template": "lpar", "count": 8, "claimed": 3}
    assert as_json(surveyed())["slots"] is None
