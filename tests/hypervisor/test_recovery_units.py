"""A restarted hypervisor and units that are not back: for whom it waits, how long, and what need not wait."""

from __future__ import annotations

from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.codes import HcallCode
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, WindowAllocated
from tests.hypervisor.cluster import Cluster, told
from tests.hypervisor.fake_unit import Held

OPEN = HAllocateVasWindow(window_type=1, credits=1, domain=((1 << 64) - 1, 0, 0, 0, 0, 0))
SUSPECT_US = 3 * SECOND_US


def test_new_windows_wait_for_units_that_may_come_back(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    lp1.open_window()
    nx0.cut = True
    cluster.restart()
    number = lp1.send(OPEN)
    cluster.advance(SUSPECT_US - SECOND_US)
    assert number not in lp1.answers
    assert cluster.status().recovering
    nx0.cut = False
    cluster.wait(lambda: number in lp1.answers)
    assert told(lp1.answers[number], WindowAllocated).code is HcallCode.H_SUCCESS
    assert not cluster.status().recovering


def test_a_unit_that_does_not_come_back_is_waited_for_until_it_would_be_suspected(cluster: Cluster) -> None:
    lp1, nx0, nx1 = cluster.lpars["lp1"], cluster.units["nx0"], cluster.units["nx1"]
    lp1.open_window(chip=0)
    nx0.die()
    cluster.restart()
    restarted_us = cluster.now_us
    other = lp1.open_window(chip=0)
    assert SUSPECT_US <= cluster.now_us - restarted_us <= SUSPECT_US + SECOND_US
    assert nx1.takes_paste(other)


def test_a_unit_that_is_there_but_does_not_say_what_it_holds_is_waited_for_no_longer(cluster: Cluster) -> None:
    lp1, nx0, nx1 = cluster.lpars["lp1"], cluster.units["nx0"], cluster.units["nx1"]
    window = lp1.open_window()
    nx0.mute = True
    cluster.restart()
    restarted_us = cluster.now_us
    other = lp1.open_window(chip=0)
    assert SUSPECT_US <= cluster.now_us - restarted_us <= SUSPECT_US + SECOND_US
    assert nx1.takes_paste(other)
    assert lp1.status_of(HDeallocateVasWindow(window_id=window.window_id)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    nx0.mute = False
    nx0.speak()
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert nx0.contexts == {}


def test_what_concerns_units_that_have_told_what_they_hold_waits_for_no_other(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    there, away = lp1.open_window(chip=1), lp1.open_window(chip=0)
    nx0.cut = True
    cluster.restart()
    cluster.wait(lambda: lp1.dialer.established and cluster.unit_status("nx1").state == "running")
    began_us = cluster.now_us
    number = lp1.send(HDeallocateVasWindow(window_id=away.window_id))
    assert lp1.modify(there.window_id, process_id=78) is HcallCode.H_SUCCESS
    assert lp1.deallocate(there.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us - began_us < SECOND_US // 2
    assert (number in lp1.answers, cluster.status().recovering) == (False, True)
    nx0.cut = False
    cluster.wait(lambda: number in lp1.answers)
    assert (cluster.windows(), nx0.contexts) == ([], {})


def test_where_no_other_unit_has_room_a_new_window_waits_for_the_one_that_is_away(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    lp1.open_window()
    for unit in cluster.units.values():
        unit.cut = True
    cluster.restart()
    number = lp1.send(OPEN)
    cluster.advance(20 * SECOND_US)
    assert number not in lp1.answers
    cluster.units["nx0"].cut = False
    cluster.wait(lambda: number in lp1.answers)
    assert told(lp1.answers[number], WindowAllocated).code is HcallCode.H_SUCCESS


def full_with_windows_that_are_being_closed(cluster: Cluster) -> None:
    """lp3 died with all of its 16 credits in use, half of them at a unit that is away, and has taken the others again.

    Then the hypervisor dies.
    """
    lp3 = cluster.lpars["lp3"]
    for number in range(16):
        lp3.open_window(chip=number % 2)
    cluster.units["nx0"].cut = True
    lp3.dialer.say_bye()
    cluster.pump()
    lp3.start()
    cluster.wait(lambda: lp3.dialer.established)
    for _ in range(8):
        lp3.open_window(chip=1)
    assert lp3.allocate().code is HcallCode.H_RESOURCE
    cluster.restart()


def test_a_credit_that_may_come_back_with_its_unit_is_waited_for(cluster: Cluster) -> None:
    lp3, nx0 = cluster.lpars["lp3"], cluster.units["nx0"]
    full_with_windows_that_are_being_closed(cluster)
    number = lp3.send(OPEN)
    cluster.advance(SECOND_US)
    assert number not in lp3.answers
    nx0.cut = False
    cluster.wait(lambda: number in lp3.answers)
    assert told(lp3.answers[number], WindowAllocated).code is HcallCode.H_SUCCESS


def test_a_credit_at_a_unit_that_stays_away_is_refused_as_without_a_restart(cluster: Cluster) -> None:
    """Whoever asks may keep others from a close that would give the partition a credit."""
    lp3 = cluster.lpars["lp3"]
    full_with_windows_that_are_being_closed(cluster)
    number = lp3.send(OPEN)
    restarted_us = cluster.now_us
    cluster.wait(lambda: number in lp3.answers)
    assert told(lp3.answers[number], WindowAllocated).code is HcallCode.H_RESOURCE
    assert SUSPECT_US - SECOND_US <= cluster.now_us - restarted_us <= SUSPECT_US + SECOND_US
    assert (cluster.status().recovering, cluster.pool("lp3")) == (True, (16, 16))


def test_a_pool_that_is_full_of_open_windows_is_full_whoever_is_away(cluster: Cluster) -> None:
    lp3, nx0 = cluster.lpars["lp3"], cluster.units["nx0"]
    for number in range(16):
        lp3.open_window(chip=number % 2)
    nx0.cut = True
    cluster.restart()
    cluster.advance(SUSPECT_US + SECOND_US)
    assert cluster.status().recovering
    assert lp3.allocate().code is HcallCode.H_RESOURCE


def test_a_unit_that_is_there_but_never_says_what_it_holds_is_given_up_after_one_fence(cluster: Cluster) -> None:
    """It beats all the while: its session lives, and its fence never runs out."""
    lp1, nx0, times = cluster.lpars["lp1"], cluster.units["nx0"], cluster.system.times
    lp1.open_window(chip=0)
    nx0.mute = True
    cluster.restart()
    over_us = cluster.now_us + (times.fence_ms + times.drift_margin_ms) * MILLISECOND_US

    def given_up() -> list[object]:
        return [line.facts["units"] for line in cluster.log if line.event == "units_not_settled"]

    cluster.advance(over_us - cluster.now_us - 1)
    assert (cluster.core.recovering, given_up()) == (True, [])
    cluster.advance(1)
    assert (cluster.core.recovering, given_up()) == (False, [["nx0"]])
    assert cluster.core.recovery.wake_us() is None
    assert nx0.dialer.established


def test_a_context_that_the_ledger_does_not_know_is_closed_and_nobody_pays_for_it(cluster: Cluster) -> None:
    lp3, nx0 = cluster.lpars["lp3"], cluster.units["nx0"]
    nx0.contexts[900] = Held(b"t" * 16, 77)
    nx0.cut = True
    cluster.restart()
    cluster.advance(SUSPECT_US + SECOND_US)
    assert [lp3.open_window().code for _ in range(16)] == [HcallCode.H_SUCCESS] * 16
    nx0.cut = False
    cluster.wait(lambda: not cluster.core.recovering)
    cluster.advance(SECOND_US)
    assert 900 not in nx0.contexts


def test_a_unit_without_windows_that_was_here_is_waited_for_too(cluster: Cluster) -> None:
    cluster.restart()
    window = cluster.lpars["lp2"].allocate(chip=1)
    assert window.paste_address is not None
    assert window.paste_address.unit == "nx1"


def test_a_unit_that_was_here_is_waited_for_however_often_the_hypervisor_restarts(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.restart()
        assert cluster.status().recovering
    assert cluster.lpars["lp1"].allocate().code is HcallCode.H_SUCCESS


def test_a_unit_that_has_been_waited_for_once_is_not_waited_for_again(cluster: Cluster) -> None:
    cluster.units["nx0"].die()
    cluster.restart()
    cluster.wait(lambda: not cluster.core.recovering)
    cluster.restart()
    restarted_us = cluster.now_us
    assert cluster.lpars["lp1"].allocate(chip=1).code is HcallCode.H_SUCCESS
    assert cluster.now_us - restarted_us < SUSPECT_US


def test_a_unit_that_had_said_bye_is_not_waited_for(cluster: Cluster) -> None:
    nx0 = cluster.units["nx0"]
    nx0.dialer.say_bye()
    cluster.pump()
    nx0.die()
    cluster.restart()
    restarted_us = cluster.now_us
    assert cluster.lpars["lp1"].allocate().code is HcallCode.H_SUCCESS
    assert cluster.now_us - restarted_us < SUSPECT_US


def test_the_console_is_served_while_hcalls_are_put_off(cluster: Cluster) -> None:
    cluster.lpars["lp1"].open_window()
    for unit in cluster.units.values():
        unit.cut = True
    cluster.restart()
    assert cluster.status().recovering
    assert cluster.pool("lp1") == (40, 1)
