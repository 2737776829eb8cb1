"""A unit that stops begins nothing new, and holds nothing when it has taken its leave of the hypervisor."""

from __future__ import annotations

import pytest

from protocol import fabric_messages as fabric
from protocol.codes import CreditType
from protocol.session import Answered
from tests.nxunit.bench import Bench, done, token_of


@pytest.fixture
def bench() -> Bench:
    """A stopping unit that is at its last request."""
    bench = Bench()
    bench.program(1)
    bench.paste(1, 1)
    bench.unit.stop(bench.now_us)
    bench.pump()
    return bench


def context(window_id: int, process_id: int = 500) -> fabric.ProgramContext:
    return fabric.ProgramContext(
        window_id=window_id, lpar="lp1", credit_type=CreditType.DEFAULT, window_credits=1, process_id=process_id,
        token=token_of(window_id),
    )  # fmt: skip


def test_a_stopping_unit_takes_no_new_context(bench: Bench) -> None:
    number = bench.call(context(2))
    bench.advance(1_000)
    assert bench.answer(number) is None, "the hypervisor is put off, and asks the next process of the unit"
    assert bench.held() == [1]


def test_a_stopping_unit_lets_its_contexts_be_closed(bench: Bench) -> None:
    number = bench.close(1)
    assert bench.answer(number) is None, "its request is not over"
    bench.work(done)
    replies = [event.reply for event in bench.events if isinstance(event, Answered) and event.number == number]
    assert replies == [fabric.ContextClosed(window_id=1, bytes_processed=4)]


def test_a_unit_that_has_taken_its_leave_has_no_context_and_takes_no_paste(bench: Bench) -> None:
    """With its BYE the hypervisor counts every window's context there as closed, and gives the credits away."""
    assert bench.work(done)
    bench.advance(1)
    assert not bench.hypervisor.sessions, "it has said BYE"
    assert bench.exit is None, "its last words are still on their way"
    assert bench.unit.statistics().contexts == 0
    assert bench.paste(1, 2) == [("refused", 2)]
