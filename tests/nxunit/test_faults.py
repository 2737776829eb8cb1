"""Translation faults at the unit: held until the kernel has fetched them, told to the hypervisor, never run again."""

from __future__ import annotations

from nxunit.core import FAULTS_WAIT_US
from nxunit.statistics import RefusalCause
from protocol import fabric_messages as fabric
from protocol.clock import MILLISECOND_US
from protocol.codes import FunctionCode, Operand
from protocol.paste_messages import Crb
from tests.fidelity.rows import fidelity
from tests.nxunit.bench import Bench, stopped, token_of

FAULTS_WAIT_MS = FAULTS_WAIT_US // MILLISECOND_US


@fidelity(
    "3 faults",
    "On a translation fault NX writes no status block, raises no completion interrupt and returns no window "
    "credit: system software owns the request.",
    source="UM p.46-47",
)
def test_a_fault_is_told_instead_of_completed_and_keeps_its_window_credit(bench: Bench) -> None:
    crb = Crb(function=FunctionCode.COMPRESS_DHT, target_bytes=100, source_address=0x7000_0000, csb_address=0x9000)
    bench.paste(1, 4, crb=crb)
    assert bench.work(stopped) == []
    (called,) = bench.told_of(fabric.FaultRaised)
    assert called.body == fabric.FaultRaised(
        window_id=1, token=token_of(1), number=4, function=crb.function, operand=Operand.SOURCE,
        fault_address=0x7000_0000, csb_address=0x9000,
    )  # fmt: skip
    assert bench.paste(1, 5) == [("refused", 5)]
    statistics = bench.unit.statistics()
    assert statistics.refused == {RefusalCause.NO_WINDOW_CREDIT: 1}
    assert statistics.translation_faults == {Operand.SOURCE: 1}
    assert (statistics.faults_outstanding, statistics.bytes_in, dict(statistics.completed)) == (1, 0, {})


def test_the_engine_goes_on_with_the_next_request_at_once(bench: Bench) -> None:
    bench.paste(1, 1)
    bench.paste(2, 1)
    assert bench.work(stopped) == []
    assert bench.work() == [("completed", 1)]
    assert bench.unit.statistics().normal_queued == 0


@fidelity(
    "1 hcalls",
    "The window credit of a faulted request is returned when H_GET_NX_FAULT succeeds, and not before.",
    source="ML:23a3cf6124",
)
def test_the_window_credit_is_back_when_the_fault_was_fetched(bench: Bench) -> None:
    bench.fault(1, 1)
    assert bench.answer(bench.give_back(1, 1)) == fabric.CreditReturned(window_id=1, number=1)
    assert bench.faults_held == 0
    assert bench.paste(1, 2) == [("accepted", 2)]
    assert bench.work() == [("completed", 2)]
    assert bench.paste(1, 3) == [("accepted", 3)]
    assert bench.paste(1, 4) == [("refused", 4)], "one credit, however often it is returned"


def test_a_credit_that_is_not_held_is_returned_without_effect(bench: Bench) -> None:
    bench.fault(1, 1)
    for window_id, number in ((9, 1), (2, 1), (1, 2), (1, 0)):
        answer = bench.answer(bench.give_back(window_id, number))
        assert answer == fabric.CreditReturned(window_id=window_id, number=number)
    assert bench.faults_held == 1
    assert bench.paste(1, 2) == [("refused", 2)]
    for _ in range(2):
        assert bench.answer(bench.give_back(1, 1)) == fabric.CreditReturned(window_id=1, number=1)
    assert [bench.paste(1, number)[0][0] for number in (3, 4)] == ["accepted", "refused"]


def test_a_repeat_of_a_faulted_paste_is_accepted_and_never_run(bench: Bench) -> None:
    bench.fault(1, 7)
    assert bench.paste(1, 7) == [("accepted", 7)]
    assert bench.work() == []
    bench.give_back(1, 7)
    assert bench.paste(1, 7) == [("accepted", 7)]
    assert bench.work() == []
    assert bench.faults_told() == [(1, 7)]
    statistics = bench.unit.statistics()
    assert (statistics.accepted, statistics.repeated, statistics.recomputed) == (1, 2, 0)
    assert bench.paste(1, 7, token=bytes(16)) == [("faulted", 7)]
    assert bench.paste(1, 6) == []
    assert bench.paste(1, 8) == [("accepted", 8)]
    assert bench.work() == [("completed", 8)]
    assert bench.paste(1, 8) == [("accepted", 8)]
    assert bench.work() == [("completed", 8)], "a later request is computed again as ever"


@fidelity(
    "3 faults",
    "A faulted request is outstanding until it is fetched: its window does not close before.",
    source="K:vas.c",
)
def test_a_closing_window_drains_behind_its_fault(bench: Bench) -> None:
    bench.fault(1, 1)
    number = bench.close(1)
    assert bench.notices() == [fabric.ContextDraining(window_id=1, in_flight=1)]
    assert bench.answer(number) is None
    assert bench.held() == [1, 2]
    assert bench.paste(1, 1) == [("accepted", 1)], "its status block is still to come from the kernel"
    assert bench.paste(1, 2) == [("faulted", 2)]
    returned = bench.give_back(1, 1)
    assert bench.answer(returned) == fabric.CreditReturned(window_id=1, number=1)
    assert bench.answer(number) == fabric.ContextClosed(window_id=1, bytes_processed=0)
    assert bench.held() == [2]


@fidelity(
    "3 faults",
    "A faulted request is outstanding until it is fetched: its window does not close before.",
    source="K:vas.c",
)
def test_a_window_that_closes_waits_for_requests_and_faults_alike() -> None:
    bench = Bench()
    bench.program(1, window_credits=2)
    bench.fault(1, 1)
    bench.paste(1, 2)
    number = bench.close(1)
    bench.give_back(1, 1)
    assert bench.answer(number) is None
    bench.work()
    assert bench.answer(number) == fabric.ContextClosed(window_id=1, bytes_processed=4)


def test_two_faults_of_one_window_are_returned_in_any_order() -> None:
    bench = Bench()
    bench.program(1, window_credits=2)
    bench.fault(1, 1)
    bench.fault(1, 2)
    assert bench.faults_told() == [(1, 1), (1, 2)]
    bench.give_back(1, 2)
    assert bench.faults_held == 1
    assert [bench.paste(1, number)[0][0] for number in (3, 4)] == ["accepted", "refused"]
    bench.give_back(1, 1)
    assert bench.paste(1, 5) == [("accepted", 5)]


def test_the_fault_of_an_earlier_request_does_not_keep_the_last_from_being_repeated() -> None:
    bench = Bench()
    bench.program(1, window_credits=2)
    bench.paste(1, 1)
    bench.paste(1, 2)
    bench.work(stopped)
    assert bench.work() == [("completed", 2)]
    assert bench.paste(1, 2) == [("accepted", 2)]
    assert bench.work() == [("completed", 2)]
    assert bench.paste(1, 1) == [], "of its number a window keeps the last only"


def test_a_repeat_that_faults_takes_a_window_credit_so_that_faults_stay_few(bench: Bench) -> None:
    """A repeat of a completed request runs without a credit; unfetched faults must not pile up that way."""
    for number in range(1, 20):
        if bench.paste(1, number) != [("accepted", number)]:
            continue
        bench.work()
        bench.paste(1, number)
        bench.work(stopped)
    assert bench.faults_told() == [(1, 1)]
    assert bench.paste(1, 20) == [("refused", 20)]
    bench.give_back(1, 1)
    assert bench.paste(1, 21) == [("accepted", 21)]


def test_a_window_has_at_most_one_fault_more_than_window_credits(bench: Bench) -> None:
    bench.paste(1, 1)
    bench.work()
    bench.paste(1, 1)
    assert bench.paste(1, 2) == [("accepted", 2)]
    assert bench.work(stopped) == []
    assert bench.work(stopped) == []
    assert bench.faults_told() == [(1, 1), (1, 2)]
    bench.give_back(1, 2)
    assert bench.paste(1, 3) == [("refused", 3)]
    bench.give_back(1, 1)
    assert bench.paste(1, 4) == [("accepted", 4)]


def test_a_window_with_a_fault_is_not_programmed_otherwise(bench: Bench) -> None:
    bench.fault(1, 1)
    assert not bench.program(1, token=b"another token 16")
    assert bench.program(1)
    assert bench.faults_held == 1
    bench.give_back(1, 1)
    assert bench.program(1, token=b"another token 16")
    assert bench.paste(1, 1, token=b"another token 16") == [("accepted", 1)]
    assert bench.work() == [("completed", 1)], "another window with a number of its own"
