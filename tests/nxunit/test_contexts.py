"""What the hypervisor does with a unit: contexts programmed, closed, listed; sessions lost and opened anew."""

from __future__ import annotations

import pytest

from nxunit.context import ContextTable
from protocol import fabric_messages as fabric
from protocol.codes import CreditType, ExitCode
from protocol.fabric_messages import ContextProgrammed
from protocol.message import Message
from protocol.refusals import RefusalCode
from protocol.session import Called, Opened
from protocol.session_messages import BeatEcho, Hello, Refused
from protocol.wire import refuse
from tests.nxunit.bench import Bench, done, everything, nothing, token_of


@pytest.fixture
def bench() -> Bench:
    return Bench()


def wanted(window_id: int, process_id: int, window_credits: int = 1) -> fabric.ProgramContext:
    return fabric.ProgramContext(
        window_id=window_id, lpar="lp1", credit_type=CreditType.DEFAULT, window_credits=window_credits,
        process_id=process_id, token=token_of(window_id),
    )  # fmt: skip


def ready_calls(bench: Bench) -> list[fabric.UnitReady]:
    return [event.body for event in bench.events if isinstance(event, Called)
            and isinstance(event.body, fabric.UnitReady)]  # fmt: skip


def test_a_new_session_begins_with_the_units_limits(bench: Bench) -> None:
    limits = fabric.UnitReady(window_limit=100, fifo_depth=4, request_limit_bytes=1 << 20, guard=bench.unit.guard)
    assert ready_calls(bench) == [limits]
    assert bench.session.endpoints == {"local": "ipc:///run/nx0.paste"}
    assert (bench.session.role, bench.session.name) == ("nxunit", "nx0")


def test_an_idle_window_closes_at_once_and_faults_from_then(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 1, b"12345")
    bench.work()
    number = bench.close(1)
    assert bench.answer(number) == fabric.ContextClosed(window_id=1, bytes_processed=5)
    assert bench.paste(1, 2) == [("faulted", 2)]
    assert bench.held() == []


def test_closing_an_unknown_window_succeeds(bench: Bench) -> None:
    bench.program(1)
    assert bench.answer(bench.close(8)) == fabric.ContextClosed(window_id=8, bytes_processed=0)
    bench.close(1)
    assert bench.answer(bench.close(1)) == fabric.ContextClosed(window_id=1, bytes_processed=0)


def test_a_close_waits_for_the_request_in_flight(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 1)
    number = bench.close(1)
    assert bench.answer(number) is None
    assert bench.notices() == [fabric.ContextDraining(window_id=1, in_flight=1)]
    assert bench.paste(1, 2) == [("faulted", 2)]
    assert bench.held() == [1]
    assert bench.work() == [("completed", 1)]
    assert bench.answer(number) == fabric.ContextClosed(window_id=1, bytes_processed=4)
    assert bench.held() == []


def test_a_repeat_while_closing_is_answered_if_under_way_and_faults_if_completed(bench: Bench) -> None:
    bench.program(1, window_credits=2)
    bench.paste(1, 1)
    bench.paste(1, 2)
    bench.close(1)
    assert bench.paste(1, 2) == [("accepted", 2)]
    bench.work()
    assert bench.paste(1, 1) == []
    assert bench.work() == [("completed", 2)]
    assert bench.paste(1, 2) == [("faulted", 2)]


def test_a_completed_repeat_faults_while_another_request_of_the_closing_window_drains(bench: Bench) -> None:
    bench.program(1, window_credits=2)
    bench.paste(1, 1)
    bench.paste(1, 2)
    bench.work()
    bench.work()
    bench.paste(1, 2)
    number = bench.close(1)
    assert bench.answer(number) is None, "a repeat being computed again is waited for too"
    assert bench.work() == [("completed", 2)]
    assert bench.answer(number) is not None


def test_every_close_of_a_draining_window_is_answered(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 1)
    numbers = [bench.close(1) for _ in range(3)]
    assert [bench.answer(number) for number in numbers] == [None] * 3
    bench.work()
    assert {bench.answer(number) for number in numbers} == {fabric.ContextClosed(window_id=1, bytes_processed=4)}


def test_a_context_programmed_again_keeps_its_pastes(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 5)
    assert bench.program(1), "the same values, with a request in flight"
    assert not bench.program(1, process_id=9), "other values must wait for the request"
    assert bench.paste(1, 6) == [("refused", 6)]
    bench.work()
    assert bench.program(1, process_id=9)
    assert bench.paste(1, 4) == []
    reply = bench.answer(bench.call(fabric.ListContexts()))
    summary = fabric.ContextSummary(window_id=1, token=token_of(1), process_id=9)
    assert reply == fabric.Contexts(contexts=(summary,))


def test_a_programmed_context_tells_its_requests_queued_running_and_stopped_by_a_fault(bench: Bench) -> None:
    same, other = (wanted(1, process_id, window_credits=3) for process_id in (500, 9))

    def told() -> tuple[tuple[bool, int], ...]:
        replies = [bench.answer(bench.call(body)) for body in (other, same)]
        return tuple((reply.accepted, reply.in_flight) for reply in replies if isinstance(reply, ContextProgrammed))

    bench.call(same)
    assert bench.answer(bench.call(same)) == ContextProgrammed(window_id=1, accepted=True, in_flight=0)
    bench.fault(1, 1)
    assert told() == ((False, 1), (True, 1))
    bench.paste(1, 2)
    bench.paste(1, 3)
    running = bench.unit.take_job(bench.now_us)
    assert running is not None
    assert told() == ((False, 3), (True, 3))
    bench.unit.finish(running, done(running), bench.now_us)
    bench.work()
    assert told() == ((False, 1), (True, 1))
    bench.give_back(1, 1)
    assert bench.answer(bench.call(other)) == ContextProgrammed(window_id=1, accepted=True, in_flight=0)


def test_a_window_id_programmed_with_another_token_is_another_window(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 5)
    bench.work()
    assert bench.program(1, CreditType.QOS, token=b"another token 16")
    assert bench.paste(1, 6) == [("faulted", 6)]
    assert bench.paste(1, 1, token=b"another token 16") == [("accepted", 1)]
    assert bench.unit.statistics().high_queued == 1


def test_a_closing_context_cannot_be_programmed(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 1)
    bench.close(1)
    assert not bench.program(1)
    bench.work()
    assert bench.program(1)


def test_a_full_table_takes_no_more_contexts() -> None:
    bench = Bench(windows_per_unit=2)
    assert [bench.program(window_id) for window_id in (1, 2, 3)] == [True, True, False]
    assert bench.program(2, process_id=9)
    bench.close(1)
    assert bench.program(3)
    assert bench.held() == [2, 3]


def test_a_context_waits_for_the_first_echo_of_a_beat() -> None:
    def lose(message: Message) -> bool:
        return isinstance(message, BeatEcho)

    bench = Bench(lose=lose)
    number = bench.call(
        fabric.ProgramContext(
            window_id=1, lpar="lp1", credit_type=CreditType.DEFAULT, window_credits=1, process_id=1, token=token_of(1)
        )
    )
    assert bench.answer(number) is None
    assert bench.paste(1, 1) == [("faulted", 1)]
    bench.lose = nothing
    bench.advance(2_000)
    assert bench.answer(number) == fabric.ContextProgrammed(window_id=1, accepted=True)


def test_a_session_that_is_dead_at_the_hypervisor_is_opened_anew_with_the_contexts_kept(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 1)
    first_epoch = bench.session.epoch
    bench.restart_hypervisor()
    bench.advance(5_000)
    assert bench.session.epoch >= first_epoch
    assert len(ready_calls(bench)) == 2
    assert bench.held() == [1]
    assert bench.work() == [("completed", 1)]
    assert "fabric_session_dead" in [line.event for line in bench.log]


def test_a_close_asked_in_a_session_that_died_is_not_answered_in_the_next(bench: Bench) -> None:
    bench.program(1)
    bench.paste(1, 1)
    bench.close(1)
    bench.restart_hypervisor()
    bench.advance(5_000)
    number = bench.close(1)
    bench.work()
    assert bench.answer(number) == fabric.ContextClosed(window_id=1, bytes_processed=4)
    assert bench.held() == []


def test_a_cut_shorter_than_the_fence_changes_nothing(bench: Bench) -> None:
    bench.program(1)
    bench.lose = everything
    bench.advance(20_000)
    assert bench.paste(1, 1) == [("accepted", 1)]
    bench.work()
    bench.lose = nothing
    bench.advance(5_000)
    assert bench.held() == [1]
    assert sum(isinstance(event, Opened) for event in bench.events) == 1


def test_a_unit_the_system_does_not_know_ends_with_the_reason() -> None:
    def unknown(hello: Hello) -> Refused:
        return refuse(RefusalCode.UNKNOWN_NAME, "one of nx1", hello.name)

    bench = Bench(lose=everything)
    bench.hypervisor.admit = unknown
    bench.lose = nothing
    bench.advance(1_000)
    assert bench.exit is not None
    assert bench.exit.code is ExitCode.REFUSED
    assert "nx1" in bench.exit.reason


def test_contexts_are_listed_in_pages_of_rising_ids() -> None:
    table = ContextTable(limit=10_000)
    for window_id in range(fabric.CONTEXT_PAGE + 10, 0, -1):
        wanted = fabric.ProgramContext(
            window_id=window_id,
            lpar="lp1",
            credit_type=CreditType.DEFAULT,
            window_credits=1,
            process_id=1,
            token=bytes(16),
        )
        assert table.program(wanted)
    first, second = table.page(0), table.page(fabric.CONTEXT_PAGE)
    assert [context.window_id for context in first.contexts] == list(range(1, fabric.CONTEXT_PAGE + 1))
    assert first.more
    assert [context.window_id for context in second.contexts] == list(
        range(fabric.CONTEXT_PAGE + 1, fabric.CONTEXT_PAGE + 11)
    )
    assert not second.more
