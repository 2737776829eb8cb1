"""What the management console may ask of the hypervisor."""

from __future__ import annotations

import pytest

from protocol.clock import SECOND_US
from protocol.codes import CreditType, WindowStatus
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    ConsoleFailure,
    MigratePartition,
    PoolStatus,
    QueryWindows,
    Windows,
)
from protocol.hcall_messages import HDeallocateVasWindow
from tests.hypervisor.cluster import Cluster, settings, told


def page(cluster: Cluster, lpar: str | None = None, above: int = 0) -> Windows:
    return told(cluster.console.ask(QueryWindows(lpar=lpar, above=above)), Windows)


def test_the_status_describes_the_whole_system(cluster: Cluster) -> None:
    status = cluster.status()
    assert (status.system, status.recovering, status.cores_total) == ("test", False, 8)
    assert (status.hundredths_free, status.qos_total, status.qos_free) == (320, 128, 128)
    assert [unit.state for unit in status.units] == ["running", "running"]
    assert [(lpar.name, lpar.state, lpar.mode, lpar.home_chip) for lpar in status.lpars] == [
        ("lp1", "running", "dedicated", 0),
        ("lp2", "running", "dedicated", 1),
        ("lp3", "running", "shared", 1),
    ]
    assert status.lpars[0].pools == (
        PoolStatus(credit_type=CreditType.QOS, target=0, in_use=0),
        PoolStatus(credit_type=CreditType.DEFAULT, target=40, in_use=0),
    )
    assert status.lpars[0].endpoints == {"local": "ipc:///run/lp1.lpar"}


def test_before_anybody_connects_nothing_is_there() -> None:
    cluster = Cluster()
    cluster.console.start()
    status = cluster.status()
    assert {lpar.state for lpar in status.lpars} == {"not_activated"}
    assert {unit.state for unit in status.units} == {"absent"}
    cluster.advance(31_000_000)
    assert {unit.state for unit in cluster.status().units} == {"fenced"}


def test_a_draining_window_is_counted_and_shown(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window_id = lp1.open_window().window_id
    nx0.contexts[window_id].in_flight = 1
    lp1.status_of(HDeallocateVasWindow(window_id=window_id))
    row = cluster.windows()[0]
    assert (row.lpar, row.unit, row.state, row.status) == ("lp1", "nx0", "closing", WindowStatus.BUSY)
    assert cluster.unit_status("nx0").windows == 1
    assert cluster.pool("lp1") == (40, 1)


def test_windows_can_be_asked_for_one_partition(cluster: Cluster) -> None:
    first = cluster.lpars["lp1"].open_window()
    cluster.lpars["lp2"].open_window()
    assert [row.window_id for row in page(cluster, "lp1").rows] == [first.window_id]
    assert page(cluster, "lp3").rows == ()


def test_a_long_window_table_comes_in_pages() -> None:
    cluster = Cluster(
        settings(
            credits_per_core=600, chip=[{"number": 0, "unit": "nx0", "cores": 8}], lpar=[{"name": "lp1", "cores": 2}]
        )
    )
    cluster.units["nx0"].limit = 2_000
    cluster.start()
    for _ in range(1_100):
        cluster.lpars["lp1"].allocate()
    first = page(cluster)
    second = page(cluster, above=first.rows[-1].window_id)
    assert (len(first.rows), first.more, len(second.rows), second.more) == (1_024, True, 76, False)
    assert [row.window_id for row in first.rows + second.rows] == list(range(1, 1_101))


def test_a_hold_of_an_unknown_partition_is_refused(cluster: Cluster) -> None:
    cluster.hold("lp9", hold=True)
    assert cluster.console.answers[max(cluster.console.answers)].type == "console_failure"


# Sessions of consoles.


def test_a_later_console_of_the_same_name_gets_no_answer_of_an_earlier_one(cluster: Cluster) -> None:
    cluster.hold("lp1", hold=True)
    other = cluster.new_console("other")
    other.send(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=20_000))
    cluster.pump()
    other.die()
    cluster.advance(8 * SECOND_US)
    cluster.restart()
    cluster.hold("lp2", hold=True)
    other.start()
    number = other.send(ChangeProcessors(lpar="lp2", cores=+1, wait_ms=60_000))
    cluster.advance(30 * SECOND_US)
    assert number not in other.answers
    cluster.hold("lp2", hold=False)
    cluster.pump()
    assert told(other.answers[number], ConfigurationApplied).lpar == "lp2"


def test_the_epochs_of_consoles_never_fall(cluster: Cluster) -> None:
    epochs = []
    for turn in range(3):
        console = cluster.new_console(f"visitor-{turn}")
        cluster.wait(lambda console=console: console.dialer.established)  # type: ignore[misc]
        epochs.append(console.epoch)
        console.dialer.say_bye()
        cluster.pump()
        console.die()
        cluster.restart()
    assert epochs == sorted(set(epochs))


@pytest.mark.parametrize("down_s", [0, 2, 8])
@pytest.mark.parametrize("ended_meanwhile", [True, False])
def test_a_console_with_a_short_lease_learns_what_became_of_its_change(down_s: int, ended_meanwhile: bool) -> None:
    """Its connection is made anew by ZeroMQ: that the hypervisor was restarted shows by the silence only."""
    times = {"client_lease_ms": 500, "fence_ms": 30_000}
    cluster = Cluster(settings(times=times)).start()
    cluster.hold("lp1", hold=True)
    other = cluster.new_console("other")
    cluster.wait(lambda: other.dialer.established)
    number = other.send(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=60_000))
    cluster.pump()
    other.cut = True
    cluster.restart()
    cluster.advance(down_s * SECOND_US)
    if ended_meanwhile:
        cluster.hold("lp1", hold=False)
        cluster.wait(lambda: cluster.lpar_status("lp1").acknowledged == 1)
    other.cut = False
    cluster.advance(5 * SECOND_US)
    assert (other.epoch, other.ended) == (2, None)
    cluster.hold("lp1", hold=False)
    cluster.advance(5 * SECOND_US)
    applied = told(other.answers[number], ConfigurationApplied)
    assert (applied.lpar, applied.generation, applied.total_after) == ("lp1", 1, 20)


def test_a_console_that_does_not_come_back_is_forgotten_after_a_while() -> None:
    cluster = Cluster(settings(times={"client_lease_ms": 500})).start()
    other = cluster.new_console("other")
    cluster.wait(lambda: other.dialer.established)
    other.send(MigratePartition(lpar="lp1", hold_ms=0, wait_ms=1))
    cluster.pump()
    cluster.restart()
    other.die()
    cluster.advance(9 * SECOND_US)
    assert "other" in cluster.core.hmc.sessions
    cluster.advance(2 * SECOND_US)
    assert "other" not in cluster.core.hmc.sessions


def test_observers_leave_places_for_those_who_manage_the_machine() -> None:
    cluster = Cluster(settings(limits={"sessions": 16})).start()
    observers = [cluster.new_console(f"observer-{number}", "observer") for number in range(20)]
    cluster.advance(5 * SECOND_US)
    assert sum(observer.dialer.established for observer in observers) == 14
    operator = cluster.new_console("operator")
    cluster.wait(lambda: operator.dialer.established)


def test_windows_of_an_unknown_partition_are_refused_with_the_names_that_exist(cluster: Cluster) -> None:
    refused = told(cluster.console.ask(QueryWindows(lpar="lp9")), ConsoleFailure)
    assert (refused.code, refused.text, refused.advice) == (
        "unknown_lpar", "no partition 'lp9'", "this system has lp1, lp2, lp3",
    )  # fmt: skip
    assert page(cluster, "lp1").rows == ()
