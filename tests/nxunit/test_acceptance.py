"""Which pastes are accepted, refused or faulted, and what a repeat does."""

from __future__ import annotations

import pytest

from nxunit.statistics import FaultCause, RefusalCause
from protocol.codes import CreditType, FunctionCode
from protocol.paste_messages import Crb, PasteCompleted
from tests.fidelity.rows import fidelity
from tests.nxunit.bench import CLIENT, Bench, done, token_of


@pytest.fixture
def bench() -> Bench:
    return Bench()


@fidelity(
    "2 accelerator",
    "A paste takes one send-window credit and one slot of the receive FIFO; with both it is accepted.",
    source="UM p.46-47",
)
def test_a_paste_with_window_credit_and_slot_is_accepted_and_completes(bench: Bench) -> None:
    assert bench.program(1)
    assert bench.paste(1, 1, b"abc") == [("accepted", 1)]
    assert bench.work() == [("completed", 1)]
    completed = bench.told[-1]
    assert completed.frames == (b"cba",)
    assert isinstance(completed.body, PasteCompleted)
    assert completed.body.csb.processed_bytes == 3


def test_a_window_without_a_context_faults(bench: Bench) -> None:
    assert bench.paste(9, 1) == [("faulted", 1)]
    assert bench.unit.statistics().faulted == {FaultCause.UNKNOWN_WINDOW: 1}


def test_another_windows_token_faults(bench: Bench) -> None:
    bench.program(1)
    assert bench.paste(1, 1, token=token_of(2)) == [("faulted", 1)]
    assert bench.unit.statistics().faulted == {FaultCause.WRONG_TOKEN: 1}
    assert bench.paste(1, 1) == [("accepted", 1)]


@fidelity(
    "2 accelerator",
    "A paste that lacks the window credit or the slot is refused and nothing is queued; the sender is not told "
    "which it was.",
    source="UM p.46-47",
)
@fidelity("2 accelerator", "The window credit is back when the request has completed.", source="UM p.46-47")
def test_a_second_request_on_a_window_is_refused_until_the_first_completes(bench: Bench) -> None:
    bench.program(1)
    assert bench.paste(1, 1) == [("accepted", 1)]
    assert bench.paste(1, 2) == [("refused", 2)]
    job = bench.unit.take_job(bench.now_us)
    assert job is not None
    assert bench.paste(1, 3) == [("refused", 3)]
    assert bench.unit.statistics().refused == {RefusalCause.NO_WINDOW_CREDIT: 2}
    bench = Bench()
    bench.program(1)
    bench.paste(1, 1)
    bench.work()
    assert bench.paste(1, 4) == [("accepted", 4)]


@fidelity("2 accelerator", "The window credit is back when the request has completed.", source="UM p.46-47")
@fidelity(
    "2 accelerator",
    "A window's credits are how many requests it may have outstanding; on PowerVM that is 1.",
    source="K:vas.c",
)
def test_as_many_requests_as_window_credits_are_in_flight(bench: Bench) -> None:
    bench.program(1, window_credits=2)
    assert [bench.paste(1, number)[0][0] for number in (1, 2, 3)] == ["accepted", "accepted", "refused"]
    assert bench.work() == [("completed", 1)]
    assert bench.paste(1, 4) == [("accepted", 4)]


@fidelity(
    "2 accelerator",
    "A paste that lacks the window credit or the slot is refused and nothing is queued; the sender is not told "
    "which it was.",
    source="UM p.46-47",
)
@fidelity("2 accelerator", "The slot is free again when NX pulls the request out of the FIFO.", source="UM p.46-47")
def test_a_full_fifo_refuses_and_queues_nothing(bench: Bench) -> None:
    for window_id in range(1, 7):
        bench.program(window_id)
    answers = [bench.paste(window_id, 1)[0][0] for window_id in range(1, 7)]
    assert answers == ["accepted"] * 4 + ["refused"] * 2
    assert bench.unit.statistics().refused == {RefusalCause.FIFO_FULL: 2}
    assert bench.unit.statistics().normal_queued == 4
    assert bench.unit.take_job(bench.now_us) is not None
    assert bench.paste(5, 2) == [("accepted", 2)], "the slot is free when the engine has pulled the request"
    assert bench.paste(6, 1) == [("refused", 1)]


@fidelity(
    "2 accelerator",
    "There are two receive FIFOs, of high and of normal priority, and NX prefers the high one.",
    source="UM p.28-30",
)
def test_a_full_normal_fifo_leaves_qos_pastes_alone_and_they_go_first(bench: Bench) -> None:
    for window_id in range(1, 5):
        bench.program(window_id)
        bench.paste(window_id, 1)
    bench.program(10, CreditType.QOS)
    assert bench.paste(10, 1, b"qos") == [("accepted", 1)]
    bench.work()
    assert bench.told[-1].frames == (b"soq",)


@fidelity(
    "2 accelerator",
    "DMA holds a current and a prefetched request for each engine.",
    source="UM p.28-30",
    differs="One job at a time; the next one stays in the FIFO.",
)
def test_the_engine_has_one_job_at_a_time(bench: Bench) -> None:
    for window_id in (1, 2):
        bench.program(window_id)
        bench.paste(window_id, 1)
    assert bench.unit.take_job(bench.now_us) is not None
    assert not bench.unit.has_work
    assert bench.unit.take_job(bench.now_us) is None


def test_a_repeat_of_a_queued_paste_is_accepted_again_and_moves_the_answer(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 1)
    assert bench.paste(1, 1, peer=b"reconnected") == [("accepted", 1)]
    assert bench.work() == [("completed", 1)]
    assert bench.told[-1].peer == b"reconnected"
    assert bench.work() == []


def test_a_repeat_of_a_running_paste_moves_the_answer_too(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 1)
    job = bench.unit.take_job(bench.now_us)
    assert job is not None
    assert bench.paste(1, 1, peer=b"reconnected") == [("accepted", 1)]
    bench.unit.finish(job, done(job), bench.now_us)
    bench.pump()
    assert (bench.told[-1].peer, bench.told[-1].brief) == (b"reconnected", ("completed", 1))


def test_a_repeat_of_a_completed_paste_is_computed_again_and_counted_once(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 7, b"abc")
    bench.work()
    first = bench.told[-1]
    assert bench.paste(1, 7, b"abc", peer=b"reconnected") == [("accepted", 7)]
    assert bench.work() == [("completed", 7)]
    assert (bench.told[-1].body, bench.told[-1].frames) == (first.body, first.frames)
    assert bench.told[-1].peer == b"reconnected"
    statistics = bench.unit.statistics()
    assert (statistics.accepted, statistics.recomputed, statistics.bytes_in) == (1, 1, 3)
    assert sum(statistics.completed.values()) == 1


def test_a_repeat_of_a_completed_paste_needs_a_slot_but_no_window_credit(bench: Bench) -> None:
    for window_id in range(1, 6):
        bench.program(window_id)
    bench.paste(1, 1)
    bench.work()
    bench.paste(1, 1)
    assert bench.paste(1, 2) == [("accepted", 2)], "the repeat holds no window credit"
    bench.work()
    bench.work()
    for window_id in range(2, 6):
        bench.paste(window_id, 1)
    assert bench.paste(1, 2) == [("refused", 2)]
    bench.work()
    assert bench.paste(1, 2) == [("accepted", 2)]


def test_a_repeat_that_completed_gives_no_window_credit_back(bench: Bench) -> None:
    bench.program(1)
    for _ in range(3):
        bench.paste(1, 1)
        bench.work()
    assert [bench.paste(1, number)[0][0] for number in (2, 3)] == ["accepted", "refused"]


def test_a_number_below_the_last_is_ignored(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 5)
    assert bench.paste(1, 4) == []
    bench.work()
    assert bench.paste(1, 4) == []
    assert bench.unit.statistics().outdated == 2


def test_a_refused_number_stays_refused(bench: Bench) -> None:
    """A copy of it that the network was late with is not run: its sender has gone on to a new number."""
    bench.program(1)
    bench.paste(1, 1)
    assert bench.paste(1, 3) == [("refused", 3)]
    bench.work()
    assert [bench.paste(1, number) for number in (3, 2)] == [[("refused", 3)], [("refused", 2)]]
    assert bench.paste(1, 4) == [("accepted", 4)]
    statistics = bench.unit.statistics()
    assert (statistics.accepted, statistics.outdated) == (2, 2)


def test_a_client_that_is_gone_does_not_hold_up_the_unit(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 1)
    bench.unit.unreachable("paste", CLIENT, bench.now_us)
    assert bench.work() == [("completed", 1)]
    bench.unit.unreachable("paste", CLIENT, bench.now_us)
    assert bench.paste(1, 2) == [("accepted", 2)]


def test_history_is_not_counted_as_processed(bench: Bench) -> None:
    bench.program(1)
    crb = Crb(function=FunctionCode.COMPRESS_RESUME_DHT, target_bytes=100, history_bytes=4)
    bench.paste(1, 1, b"histdata!", crb=crb)
    bench.work()
    assert bench.unit.statistics().bytes_in == 5
