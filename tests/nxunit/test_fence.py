"""The unit fences itself by time, and how it stops when asked to."""

from __future__ import annotations

from nxunit.core import BYE_WAIT_US
from protocol.clock import MILLISECOND_US
from protocol.codes import ExitCode
from protocol.message import Message
from protocol.session import Closed, Opened
from protocol.session_messages import BeatEcho, Bye, ByeDone
from tests.nxunit.bench import FENCE_US, Bench, done, everything, nothing

FENCE_MS = FENCE_US // MILLISECOND_US


def fences(bench: Bench) -> int:
    return bench.unit.statistics().fences


def test_a_unit_cut_off_for_the_fence_drops_its_contexts_and_queue(bench: Bench) -> None:
    bench.paste(1, 1)
    bench.lose = everything
    bench.advance(FENCE_MS - 2_000)
    assert bench.paste(2, 1) == [("accepted", 1)]
    bench.advance(2_000)
    assert fences(bench) == 1
    assert bench.paste(1, 2) == [("faulted", 2)]
    assert bench.work() == []
    assert "unit_fenced" in [line.event for line in bench.log]


def test_the_fence_counts_from_the_sending_of_the_last_echoed_beat(bench: Bench) -> None:
    bench.advance(5_500)
    anchor_us = bench.unit.dialer.lease_anchor_us
    assert anchor_us is not None
    bench.lose = everything
    bench.advance((anchor_us + FENCE_US - bench.now_us) // MILLISECOND_US - 1, step_ms=50)
    assert fences(bench) == 0
    wake_us = bench.unit.wake_us()
    assert wake_us is not None
    assert wake_us <= anchor_us + FENCE_US
    bench.advance(1)
    assert fences(bench) == 1


def test_a_paused_process_fences_before_it_reads_its_messages(bench: Bench) -> None:
    bench.paste(1, 1)
    bench.now_us += FENCE_US + 1
    assert bench.paste(2, 1) == [("faulted", 1)]
    assert fences(bench) == 1


def test_a_paused_process_fences_before_it_takes_a_job(bench: Bench) -> None:
    bench.paste(1, 1)
    bench.now_us += FENCE_US + 1
    assert bench.unit.take_job(bench.now_us) is None
    assert fences(bench) == 1


def test_a_job_that_outlasts_the_fence_completes_for_nobody(bench: Bench) -> None:
    bench.paste(1, 1)
    job = bench.unit.take_job(bench.now_us)
    assert job is not None
    bench.now_us += FENCE_US + 1
    bench.unit.finish(job, done(job), bench.now_us)
    bench.pump()
    assert [told.brief for told in bench.told] == [("accepted", 1)]
    assert sum(bench.unit.statistics().completed.values()) == 0


def test_after_the_fence_the_unit_comes_back_clean_under_a_new_session(bench: Bench) -> None:
    epoch = bench.session.epoch
    bench.lose = everything
    bench.advance(FENCE_MS + 5_000)
    bench.lose = nothing
    bench.advance(5_000)
    assert bench.session.epoch > epoch
    assert bench.held() == []
    assert bench.program(1)
    assert bench.paste(1, 1) == [("accepted", 1)]
    assert fences(bench) == 1


def test_lost_echoes_alone_fence_the_unit_and_tell_the_hypervisor(bench: Bench) -> None:
    """Whoever hears nothing but other messages has no lease either; the hypervisor learns it by a new session."""

    def echoes(message: Message) -> bool:
        return isinstance(message, BeatEcho)

    bench.lose = echoes
    bench.advance(FENCE_MS + 3_000)
    assert fences(bench) == 1
    assert sum(isinstance(event, Opened) for event in bench.events) == 2
    assert any(isinstance(event, Closed) for event in bench.events)


def test_a_unit_without_contexts_has_nothing_to_fence() -> None:
    bench = Bench()
    bench.lose = everything
    bench.advance(2 * FENCE_MS, step_ms=500)
    assert fences(bench) == 0


def test_beats_in_time_keep_the_fence_away(bench: Bench) -> None:
    bench.advance(3 * FENCE_MS, step_ms=500)
    assert fences(bench) == 0
    assert bench.held() == [1, 2]


def test_stop_refuses_new_pastes_finishes_the_queue_and_says_bye(bench: Bench) -> None:
    bench.paste(1, 1)
    bench.unit.stop(bench.now_us)
    bench.pump()
    assert bench.exit is None
    assert bench.paste(2, 1) == [("refused", 1)]
    assert bench.paste(1, 1) == [("accepted", 1)], "a repeat of what is still queued"
    assert bench.work() == [("completed", 1)]
    assert bench.paste(9, 1) == [("refused", 1)]
    assert bench.paste(1, 1) == [("refused", 1)]
    assert not bench.hypervisor.sessions, "the session ended by BYE"
    bench.advance(200)
    assert bench.exit is not None
    assert bench.exit.code is ExitCode.OK


def test_a_bye_that_was_lost_is_said_again_while_there_is_time(bench: Bench) -> None:
    bench.lose = lambda message: isinstance(message, Bye)
    bench.unit.stop(bench.now_us)
    bench.pump()
    bench.lose = nothing
    bench.advance(800)
    assert not bench.hypervisor.sessions
    assert bench.exit is not None
    assert bench.exit.code is ExitCode.OK


def test_a_stopped_unit_whose_session_is_over_opens_no_other(bench: Bench) -> None:
    """The answer to its BYE was lost; all that it hears is that it has no session."""
    bench.lose = lambda message: isinstance(message, ByeDone)
    bench.unit.stop(bench.now_us)
    bench.pump()
    bench.advance(800)
    assert not bench.hypervisor.sessions
    assert bench.exit is not None
    assert bench.exit.code is ExitCode.OK


def test_stop_does_not_wait_for_a_hypervisor_that_is_gone(bench: Bench) -> None:
    bench.lose = everything
    bench.unit.stop(bench.now_us)
    wake_us = bench.unit.wake_us()
    assert wake_us is not None
    assert wake_us <= bench.now_us + BYE_WAIT_US
    bench.advance(BYE_WAIT_US // MILLISECOND_US)
    assert bench.exit is not None
    assert bench.exit.code is ExitCode.UNFINISHED


def test_stop_before_the_first_session_ends_soon() -> None:
    bench = Bench(lose=everything)
    bench.unit.stop(bench.now_us)
    bench.advance(200)
    assert bench.exit is not None
