"""Exactly once in effect, one side at a time: numbers, repeats, kept answers and their bounds."""

from __future__ import annotations

from itertools import pairwise

import pytest

from protocol import exchange
from protocol.clock import MILLISECOND_US, SECOND_US
from protocol.exchange import (
    OUTSTANDING_LIMIT,
    REPEAT_FIRST_US,
    REPEAT_MOST_US,
    Admission,
    BacklogFull,
    Callee,
    Caller,
)
from protocol.hcall_messages import Configuration, QueryConfiguration

ANSWER = Configuration(generation=1)


def query(generation: int = 0) -> QueryConfiguration:
    return QueryConfiguration(generation=generation)


def caller_with(requests: int, limit: int = OUTSTANDING_LIMIT) -> Caller:
    caller = Caller(limit)
    for generation in range(requests):
        caller.call(query(generation), 0)
    return caller


def numbers_due(caller: Caller, now_us: int) -> list[int]:
    return [entry.number for entry in caller.due(now_us)]


# The asking side.


def test_requests_are_numbered_from_one_and_go_out_in_order() -> None:
    caller = caller_with(3)
    assert numbers_due(caller, 0) == [1, 2, 3]
    assert caller.acked_below == 1


def test_an_unanswered_request_is_repeated_with_the_same_number_at_doubling_delays_up_to_a_ceiling() -> None:
    caller = caller_with(1)
    sent_us: list[int] = []
    wake_us: int | None = 0
    while len(sent_us) < 8:
        assert wake_us is not None
        assert numbers_due(caller, wake_us) == [1]
        sent_us.append(wake_us)
        assert numbers_due(caller, wake_us) == []
        wake_us = caller.wake_us()
    delays = [later - earlier for earlier, later in pairwise(sent_us)]
    assert delays[:4] == [REPEAT_FIRST_US, 2 * REPEAT_FIRST_US, 4 * REPEAT_FIRST_US, 8 * REPEAT_FIRST_US]
    assert set(delays[4:]) == {REPEAT_MOST_US}


def test_an_answered_request_is_never_repeated_and_its_second_answer_is_ignored() -> None:
    caller = caller_with(2)
    caller.due(0)
    assert caller.settle(1) == query(0)
    assert caller.settle(1) is None
    assert numbers_due(caller, 60 * SECOND_US) == [2]


def test_acked_below_passes_a_number_only_when_every_lower_one_is_answered_too() -> None:
    caller = caller_with(4)
    caller.due(0)
    caller.settle(3)
    caller.settle(2)
    assert caller.acked_below == 1
    caller.settle(1)
    assert caller.acked_below == 4
    caller.settle(4)
    assert caller.acked_below == 5


def test_no_more_than_the_limit_is_on_the_wire_and_answers_let_the_next_ones_out() -> None:
    caller = caller_with(10, limit=4)
    assert numbers_due(caller, 0) == [1, 2, 3, 4]
    caller.settle(2)
    assert numbers_due(caller, 0) == []
    caller.settle(1)
    assert numbers_due(caller, 0) == [5, 6]
    assert caller.wake_us() == REPEAT_FIRST_US


def test_what_waits_for_a_place_on_the_wire_wakes_nobody() -> None:
    caller = caller_with(100, limit=4)
    caller.due(0)
    assert caller.wake_us() == REPEAT_FIRST_US


def test_an_idle_caller_wakes_nobody() -> None:
    caller = Caller()
    assert caller.wake_us() is None
    assert not caller.is_waiting
    assert caller.due(SECOND_US) == []


def test_waiting_begins_with_the_first_transmission_and_ends_with_the_last_answer() -> None:
    caller = caller_with(1)
    assert not caller.is_waiting
    caller.due(0)
    assert caller.is_waiting
    caller.settle(1)
    assert not caller.is_waiting


def test_a_postponed_request_keeps_its_number_and_comes_when_the_peer_said() -> None:
    caller = caller_with(1)
    caller.due(0)
    caller.postpone(1, 50 * MILLISECOND_US, 10)
    assert caller.wake_us() == 50 * MILLISECOND_US + 10
    assert numbers_due(caller, 50 * MILLISECOND_US + 10) == [1]


def test_a_peer_that_postpones_without_naming_a_time_is_not_answered_at_once() -> None:
    caller = caller_with(1)
    caller.due(0)
    caller.postpone(1, 0, 10)
    assert caller.wake_us() == 10 + REPEAT_FIRST_US


def test_postponing_what_has_been_answered_does_nothing() -> None:
    caller = caller_with(1)
    caller.settle(1)
    caller.postpone(1, 0, 0)
    assert caller.wake_us() is None


def test_a_new_connection_repeats_everything_that_was_on_the_wire_at_once_and_nothing_else() -> None:
    caller = caller_with(6, limit=4)
    for now_us in (0, REPEAT_FIRST_US, 3 * REPEAT_FIRST_US):
        caller.due(now_us)
    caller.settle(1)
    now_us = 4 * REPEAT_FIRST_US
    caller.repeat_all(now_us)
    assert numbers_due(caller, now_us) == [2, 3, 4, 5]
    assert caller.wake_us() == now_us + REPEAT_FIRST_US


def test_a_full_backlog_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "BACKLOG_LIMIT", 3)
    caller = caller_with(3)
    with pytest.raises(BacklogFull, match="3 requests"):
        caller.call(query(), 0)
    caller.settle(1)
    assert caller.call(query(), 0) == 4


# The answering side.


def test_a_new_request_is_carried_out_and_its_repeat_is_not_while_it_is_under_way() -> None:
    callee = Callee()
    assert callee.admit(1) is Admission.EXECUTE
    assert callee.admit(1) is Admission.ALREADY_UNDER_WAY


def test_the_repeat_of_an_answered_request_gets_the_kept_answer() -> None:
    callee = Callee()
    callee.admit(1)
    assert callee.settle(1, ANSWER)
    assert callee.admit(1) is Admission.REPEAT_ANSWER
    assert callee.answers == {1: ANSWER}


def test_a_second_answer_to_the_same_request_is_not_kept() -> None:
    callee = Callee()
    callee.admit(1)
    callee.settle(1, ANSWER)
    assert not callee.settle(1, Configuration(generation=2))
    assert callee.answers == {1: ANSWER}


def test_a_later_request_may_be_carried_out_before_an_earlier_one() -> None:
    callee = Callee()
    assert callee.admit(5) is Admission.EXECUTE
    callee.settle(5, ANSWER)
    assert callee.admit(2) is Admission.EXECUTE


def test_acknowledged_answers_are_forgotten_and_their_repeats_are_stale() -> None:
    callee = Callee()
    for number in (1, 2, 3):
        callee.admit(number)
        callee.settle(number, ANSWER)
    assert callee.acknowledge(3)
    assert set(callee.answers) == {3}
    assert [callee.admit(number) for number in (0, 1, 2)] == [Admission.STALE] * 3


def test_an_older_acknowledgement_brings_nothing_back() -> None:
    callee = Callee()
    callee.acknowledge(10)
    assert not callee.acknowledge(4)
    assert callee.admit(7) is Admission.STALE


def test_an_answer_that_the_caller_has_acknowledged_already_is_not_kept() -> None:
    callee = Callee()
    callee.admit(1)
    callee.acknowledge(2)
    assert callee.settle(1, ANSWER)
    assert callee.answers == {}


def test_a_number_beyond_the_limit_is_too_many_until_the_lower_ones_are_acknowledged() -> None:
    callee = Callee(limit=4)
    assert callee.admit(4) is Admission.EXECUTE
    assert callee.admit(5) is Admission.TOO_MANY
    callee.acknowledge(2)
    assert callee.admit(5) is Admission.EXECUTE


def test_a_caller_that_acknowledges_what_was_never_answered_cannot_fill_the_table() -> None:
    callee = Callee(limit=4)
    for number in range(1, 1000):
        callee.acknowledge(number)
        callee.admit(number)
    assert len(callee.under_way) == 4
    for number in list(callee.under_way):
        assert callee.settle(number, ANSWER)
    assert callee.admit(999) is Admission.EXECUTE


def test_an_abandoned_request_is_carried_out_when_it_is_repeated() -> None:
    callee = Callee()
    callee.admit(1)
    assert callee.abandon(1)
    assert not callee.abandon(1)
    assert not callee.settle(1, ANSWER)
    assert callee.admit(1) is Admission.EXECUTE
