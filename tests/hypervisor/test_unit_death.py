"""An NX unit is lost and comes back: nobody's window is lost, and nothing it holds is forgotten. Source: design.md."""

from __future__ import annotations

from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.fabric_messages import CloseContext, ContextDraining, ListContexts, ProgramContext
from protocol.hcall_messages import HcallStatus, HDeallocateVasWindow
from tests.hypervisor.cluster import Cluster, told
from tests.hypervisor.fake_lpar import modify
from tests.hypervisor.fake_unit import FakeUnit, Held

FENCE_US = 30_100_000


def back(cluster: Cluster, unit: FakeUnit) -> None:
    """The unit starts again with no contexts."""
    unit.start()
    cluster.wait(lambda: cluster.unit_status(unit.name).state == "running")
    cluster.pump()


def test_a_unit_that_starts_again_gets_its_contexts_back_with_the_same_tokens(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    windows = [lp1.open_window(chip=0) for _ in range(5)]
    nx0.die()
    cluster.advance(2 * SECOND_US)
    back(cluster, nx0)
    assert all(nx0.takes_paste(window) for window in windows)
    assert cluster.pool("lp1") == (40, 5)


def test_a_unit_that_was_away_longer_than_its_fence_gets_them_back_too(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.die()
    cluster.advance(FENCE_US)
    assert cluster.unit_status("nx0").state == "fenced"
    assert cluster.pool("lp1") == (40, 1)
    back(cluster, nx0)
    assert nx0.takes_paste(window)


def test_contexts_that_the_ledger_does_not_know_are_closed(cluster: Cluster) -> None:
    nx0 = cluster.units["nx0"]
    nx0.die()
    nx0.start()
    nx0.contexts[4711] = Held(b"unknown-unknown-", 1)
    cluster.advance(2 * SECOND_US)
    assert nx0.contexts == {}


def test_a_context_with_another_token_is_replaced(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.die()
    nx0.start()
    nx0.contexts[window.window_id] = Held(b"of-another-one--", 1)
    cluster.advance(2 * SECOND_US)
    assert nx0.takes_paste(window)


def test_a_context_of_another_units_window_is_closed(cluster: Cluster) -> None:
    lp1, nx0, nx1 = cluster.lpars["lp1"], cluster.units["nx0"], cluster.units["nx1"]
    window = lp1.open_window(chip=0)
    held = nx0.contexts[window.window_id]
    nx1.die()
    nx1.start()
    nx1.contexts[window.window_id] = Held(held.token, held.process_id)
    cluster.advance(2 * SECOND_US)
    assert (nx1.contexts, nx0.takes_paste(window)) == ({}, True)


def test_contexts_that_are_as_they_should_be_are_left_alone(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    asked = len(nx0.asked)
    cluster.restart()
    cluster.advance(3 * SECOND_US)
    assert nx0.takes_paste(window)
    assert not [body for body in nx0.asked[asked:] if isinstance(body, ProgramContext | CloseContext)]


def test_a_close_that_the_unit_did_not_answer_is_confirmed_by_its_return(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.mute = True
    lp1.status_of(HDeallocateVasWindow(window_id=window.window_id))
    nx0.die()
    nx0.mute = False
    back(cluster, nx0)
    assert cluster.windows()[0].state == "quiesced"
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.pool("lp1") == (40, 0)


def test_a_deallocate_at_a_lost_unit_succeeds_when_it_has_certainly_fenced_itself(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.cut = True
    lost_us = cluster.now_us
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert not nx0.takes_paste(window)
    assert 29 * SECOND_US <= cluster.now_us - lost_us <= FENCE_US + SECOND_US


def test_at_a_unit_that_is_known_to_be_quiet_a_deallocate_succeeds_at_once(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.die()
    cluster.advance(FENCE_US)
    asked_us = cluster.now_us
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
    assert cluster.now_us == asked_us


def test_a_modify_at_a_lost_unit_succeeds_when_the_unit_is_back(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.die()
    assert lp1.status_of(modify(window.window_id)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    back(cluster, nx0)
    assert lp1.modify(window.window_id) is HcallCode.H_SUCCESS
    assert nx0.takes_paste(window)


def test_a_modify_that_waits_for_a_unit_is_told_at_once_that_the_unit_has_taken_its_leave(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.mute = True
    number = lp1.send(modify(window.window_id))
    cluster.pump()
    assert number not in lp1.answers
    asked_us = cluster.now_us
    nx0.dialer.say_bye()
    cluster.pump()
    assert told(lp1.answers[number], HcallStatus).code is HcallCode.H_LONG_BUSY_ORDER_100_MSEC
    assert cluster.now_us == asked_us


def test_a_modify_that_waits_for_a_returning_unit_is_answered_once(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.die()
    nx0.start()
    number = lp1.send(modify(window.window_id))
    cluster.advance(2 * SECOND_US)
    assert told(lp1.answers[number], HcallStatus).code in (HcallCode.H_SUCCESS, HcallCode.H_LONG_BUSY_ORDER_10_MSEC)
    assert nx0.takes_paste(window)


def test_a_binding_that_is_on_its_way_to_a_returning_unit_is_closed_before_the_credit_is_free(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.die()
    nx0.mute = True
    nx0.start()
    cluster.wait(lambda: bool(nx0.asked) and nx0.dialer.established)
    lp1.status_of(modify(window.window_id))
    assert lp1.status_of(HDeallocateVasWindow(window_id=window.window_id)) is HcallCode.H_LONG_BUSY_ORDER_10_MSEC
    nx0.mute = False
    nx0.speak()
    cluster.pump()
    assert (nx0.contexts, cluster.windows()[0].state) == ({}, "quiesced")


def test_nothing_is_placed_at_a_unit_that_is_gone(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    nx0.die()
    cluster.advance(4 * SECOND_US)
    units = {window.paste_address.unit for window in (lp1.allocate(chip=0) for _ in range(4)) if window.paste_address}
    assert units == {"nx1"}


def test_a_unit_that_re_attaches_keeps_its_session_and_its_contexts(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    epoch = nx0.epoch
    nx0.cut = True
    cluster.advance(8 * SECOND_US)
    assert cluster.unit_status("nx0").state == "suspected"
    nx0.cut = False
    cluster.advance(5 * SECOND_US)
    assert (nx0.epoch, cluster.unit_status("nx0").state) == (epoch, "running")
    assert nx0.takes_paste(window)


def test_a_unit_that_fenced_itself_while_cut_off_gets_its_contexts_back(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.cut = True
    cluster.advance(40 * SECOND_US)
    assert nx0.contexts == {}
    nx0.cut = False
    cluster.wait(lambda: nx0.takes_paste(window))
    assert cluster.pool("lp1") == (40, 1)


def test_a_drain_notice_for_a_window_that_is_open_is_ignored(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.allocate()
    nx0.mute = True
    number = lp1.send(modify(window.window_id))
    cluster.pump()
    nx0.dialer.send(nx0.dialer.session, ContextDraining(window_id=window.window_id, in_flight=1))
    cluster.pump()
    assert number not in lp1.answers


def test_a_unit_that_the_system_does_not_have_is_turned_away(cluster: Cluster) -> None:
    stranger = FakeUnit(cluster, "nx9")
    cluster.units["nx9"] = stranger
    stranger.start()
    cluster.wait(lambda: stranger.ended is not None)


# Contexts are listed in pages.


def test_contexts_that_come_in_pages_are_all_reconciled(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    windows = [lp1.open_window(chip=0) for _ in range(7)]
    nx0.contexts[4711] = Held(b"unknown-unknown-", 1)
    nx0.page = 2
    asked = len(nx0.asked)
    cluster.restart()
    cluster.advance(3 * SECOND_US)
    assert [body.above for body in nx0.asked[asked:] if isinstance(body, ListContexts)] == [0, 2, 4, 6]
    assert all(nx0.takes_paste(window) for window in windows)
    assert 4711 not in nx0.contexts


def test_a_list_that_does_not_end_ends_where_it_stops_rising(cluster: Cluster) -> None:
    lp1, nx0 = cluster.lpars["lp1"], cluster.units["nx0"]
    window = lp1.open_window()
    nx0.endless = True
    cluster.restart()
    assert lp1.deallocate(window.window_id) is HcallCode.H_SUCCESS
