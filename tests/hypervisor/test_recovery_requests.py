"""Whatever is asked while the hypervisor recovers is put off and carried out once; nothing is refused for good."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from protocol.clock import SECOND_US
from protocol.codes import HYPERVISOR_CHOOSES, CreditType, HcallCode, VasiState
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    HoldChanged,
    HoldNotifications,
    MigratePartition,
    QuerySystem,
    QueryWindows,
    SetEntitlement,
    SetQosCredits,
    SystemStatus,
    Windows,
)
from protocol.hcall_messages import (
    HAllocateVasWindow,
    HDeallocateVasWindow,
    HGetNxFault,
    HHomeNodeAssociativity,
    HQueryNxCapabilities,
    HQueryVasCapabilities,
    HQueryVasWindow,
    HSetPpp,
    QueryConfiguration,
    Reconfigured,
)
from protocol.link import CONSOLE, HCALL
from protocol.message import Message, Request
from protocol.mobility_messages import HJoin, HVasiSignal, HVasiState
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from tests.failures.rows import failure
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.fake_lpar import modify

WINDOW = 1
"""The id of the only window."""

PUT_OFF: list[tuple[Request, HcallCode]] = [
    (HAllocateVasWindow(window_type=1, credits=1, domain=(HYPERVISOR_CHOOSES, 0, 0, 0, 0, 0)), HcallCode.H_SUCCESS),
    (modify(WINDOW), HcallCode.H_SUCCESS),
    (HDeallocateVasWindow(window_id=WINDOW), HcallCode.H_SUCCESS),
    (HQueryVasWindow(window_id=WINDOW), HcallCode.H_SUCCESS),
    (HGetNxFault(window_id=WINDOW, buffer_address=0x8000), HcallCode.H_STATE),
]
"""What needs a unit, and the code that it is answered with at any other time."""
ANSWERED: list[tuple[Request, HcallCode | None]] = [
    (HQueryVasCapabilities(query_type=2), HcallCode.H_SUCCESS),
    (HQueryNxCapabilities(query_type=1), HcallCode.H_SUCCESS),
    (HHomeNodeAssociativity(flags=1, processor_id=0), HcallCode.H_SUCCESS),
    (HSetPpp(entitled_capacity=100), HcallCode.H_SUCCESS),
    (HVasiState(stream_id=1), HcallCode.H_PARAMETER),
    (HVasiSignal(stream_id=1, signal=1), HcallCode.H_PARAMETER),
    (HJoin(stream_id=1), HcallCode.H_PARAMETER),
    (QueryConfiguration(generation=0), None),
    (Reconfigured(generation=0, accepted=True), None),
]
"""What needs none, so that nothing has to be waited for."""
CONSOLES: list[tuple[Request, type[Message]]] = [
    (ChangeProcessors(lpar="lp1", cores=-1, wait_ms=5_000), ConfigurationApplied),
    (SetEntitlement(lpar="lp3", hundredths=50, wait_ms=5_000), ConfigurationApplied),
    (SetQosCredits(lpar="lp1", credits=2, wait_ms=5_000), ConfigurationApplied),
    (HoldNotifications(lpar="lp1", hold=True), HoldChanged),
    (QuerySystem(), SystemStatus),
    (QueryWindows(), Windows),
]


def name(value: object) -> str:
    return type(value).__name__ if isinstance(value, Request) else ""


def requests_of(vocabulary: tuple[type[Message], ...]) -> set[type[Message]]:
    return {message for message in vocabulary if issubclass(message, Request)}


def test_every_request_of_a_partition_is_asked_here() -> None:
    assert {type(request) for request, _ in (*PUT_OFF, *ANSWERED)} == requests_of(HCALL.up.messages)


def test_every_request_of_a_console_is_asked_here() -> None:
    asked = {type(request) for request, _ in CONSOLES} | {MigratePartition}
    assert asked == requests_of(CONSOLE.up.messages)


@dataclass(slots=True)
class Wire:
    """What the hypervisor says to one end, of which nothing is lost."""

    end: str
    refusals: list[RefusalCode] = field(default_factory=list)

    def __call__(self, end: str, body: Message) -> bool:
        if end == self.end and isinstance(body, Refused):
            self.refusals.append(body.code)
        return False


def recovering(cluster: Cluster) -> None:
    """A hypervisor that was killed and does not know yet what its units hold."""
    assert cluster.lpars["lp3"].open_window().window_id == WINDOW
    for unit in cluster.units.values():
        unit.cut = True
    cluster.restart()
    cluster.wait(lambda: all(end.dialer.established for end in (*cluster.lpars.values(), cluster.console)))
    cluster.advance(SECOND_US)


def recovered(cluster: Cluster, answered: Callable[[], bool]) -> None:
    for unit in cluster.units.values():
        unit.cut = False
    cluster.wait(lambda: answered() and not cluster.core.recovering)


@failure(
    "hypervisor",
    "asked for a window, or about one, while its NX unit is not back",
    seen="RETRY, which the session layer keeps to itself: the request is repeated under its number every 50 ms.",
    lasts="Until the unit has told what it holds; after suspect_ms it counts as any unit that is away.",
    kept="The request. It is carried out once, and answered as at any other time.",
)
@pytest.mark.parametrize(("request_", "code"), PUT_OFF, ids=name)
def test_an_hcall_during_recovery_is_put_off_and_answered_as_ever(
    cluster: Cluster, request_: Request, code: HcallCode
) -> None:
    lp3 = cluster.lpars["lp3"]
    recovering(cluster)
    cluster.loses = wire = Wire("lp3")
    number = lp3.send(request_)
    cluster.advance(SECOND_US)
    assert number not in lp3.answers
    assert len(wire.refusals) > 10
    recovered(cluster, lambda: number in lp3.answers)
    assert set(wire.refusals) == {RefusalCode.RETRY}
    answer = lp3.answers[number]
    assert not isinstance(answer, Refused)
    assert getattr(answer, "code", None) == code


@pytest.mark.parametrize(("request_", "code"), ANSWERED, ids=name)
def test_an_hcall_that_needs_no_unit_is_answered_at_once(
    cluster: Cluster, request_: Request, code: HcallCode | None
) -> None:
    lp3 = cluster.lpars["lp3"]
    recovering(cluster)
    began_us = cluster.now_us
    number = lp3.send(request_)
    cluster.wait(lambda: number in lp3.answers)
    assert (cluster.core.recovering, cluster.now_us - began_us) == (True, 0)
    answer = lp3.answers[number]
    assert not isinstance(answer, Refused)
    assert getattr(answer, "code", None) == code


def test_an_allocation_that_was_put_off_a_hundred_times_takes_one_credit(cluster: Cluster) -> None:
    lp3 = cluster.lpars["lp3"]
    recovering(cluster)
    numbers = [lp3.send(PUT_OFF[0][0]) for _ in range(5)]
    cluster.advance(10 * SECOND_US)
    recovered(cluster, lambda: all(number in lp3.answers for number in numbers))
    assert cluster.pool("lp3") == (16, 6)


@pytest.mark.parametrize(("request_", "answer"), CONSOLES, ids=name)
def test_what_a_console_asks_during_recovery_is_carried_out(
    cluster: Cluster, request_: Request, answer: type[Message]
) -> None:
    recovering(cluster)
    cluster.loses = wire = Wire(cluster.console.name)
    number = cluster.console.send(request_)
    cluster.advance(SECOND_US)
    recovered(cluster, lambda: number in cluster.console.answers)
    assert isinstance(cluster.console.answers[number], answer)
    assert set(wire.refusals) <= {RefusalCode.NO_SESSION}


def test_a_change_of_processors_does_not_wait_for_the_units(cluster: Cluster) -> None:
    recovering(cluster)
    began_us = cluster.now_us
    assert isinstance(cluster.dlpar("lp1", -1), ConfigurationApplied)
    assert (cluster.core.recovering, cluster.now_us - began_us) == (True, 0)
    assert (cluster.lpar_status("lp1").acknowledged, cluster.pool("lp1", CreditType.DEFAULT)) == (1, (20, 0))


def test_a_migration_waits_for_windows_that_are_being_closed_at_a_unit_that_is_not_back(cluster: Cluster) -> None:
    """H_JOIN is refused while there is a window; here it may be closed already, and nobody knows."""
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.cut = True
    closing = HDeallocateVasWindow(window_id=window.window_id)
    assert lp1.status_of(closing).is_busy
    cluster.restart()
    lp1.follows = False
    number = cluster.console.send(MigratePartition(lpar="lp1", hold_ms=0, wait_ms=60_000))
    cluster.wait(lambda: getattr(lp1.ask(HVasiState(stream_id=1)), "state", None) is VasiState.SUSPENDING)
    joined = lp1.send(HJoin(stream_id=1))
    cluster.advance(20 * SECOND_US)
    assert (joined in lp1.answers, cluster.core.recovering) == (False, True)
    nx0.cut = False
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    cluster.wait(lambda: joined in lp1.answers)
    assert getattr(lp1.answers[joined], "code", None) is HcallCode.H_SUCCESS
    lp1.send(Reconfigured(generation=1, accepted=True))
    cluster.wait(lambda: number in cluster.console.answers)
    assert isinstance(cluster.console.answers[number], ConfigurationApplied)


def test_a_partition_that_starts_during_recovery_learns_its_capabilities_at_once(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    recovering(cluster)
    lp1.dialer.say_bye()
    cluster.pump()
    lp1.start()
    cluster.wait(lambda: lp1.dialer.established)
    assert lp1.capabilities(CreditType.DEFAULT + 1).target_lpar_credits == 40
    assert (lp1.epoch, cluster.core.recovering) == (2, True)
