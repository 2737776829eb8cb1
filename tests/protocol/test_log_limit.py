"""Storms of log lines: what comes through, what is counted, and that the reason of an end is never lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import zmq
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from structlog.typing import EventDict

from protocol.clock import SECOND_US
from protocol.codes import ExitCode
from protocol.effects import Exit
from protocol.log_limit import BURST_LINES, EVENTS_MOST, INTERVAL_US, LogLimiter
from protocol.session_messages import Hello, Refused
from tests.protocol.caller import DEADLINE_S
from tests.protocol.counting_node import CountingCore
from tests.protocol.running import Running

STORM = 100


def test_ten_lines_of_an_event_come_through_in_five_seconds_and_the_next_tells_how_many_did_not() -> None:
    limiter = LogLimiter()
    told = [limiter.admit("refused", moment_us) for moment_us in range(STORM)]
    assert told == [0] * BURST_LINES + [None] * (STORM - BURST_LINES)
    assert limiter.admit("refused", INTERVAL_US - 1) is None
    assert limiter.admit("refused", INTERVAL_US) == STORM - BURST_LINES + 1
    assert limiter.admit("refused", INTERVAL_US) == 0
    assert limiter.suppressed_total == STORM - BURST_LINES + 1


def test_one_event_does_not_cost_another_its_lines() -> None:
    limiter = LogLimiter()
    for _ in range(STORM):
        limiter.admit("refused", 0)
    assert limiter.admit("lpar_ended", 0) == 0


def test_what_was_suppressed_and_not_told_is_told_once_at_the_end() -> None:
    limiter = LogLimiter(burst_lines=1)
    for event in ("a", "a", "a", "b", "b", "c"):
        limiter.admit(event, 0)
    assert limiter.take_suppressed() == {"a": 2, "b": 1}
    assert limiter.take_suppressed() == {}


def test_names_without_end_take_no_memory_without_end() -> None:
    limiter = LogLimiter()
    for number in range(10 * EVENTS_MOST):
        limiter.admit(f"event_{number}", 0)
    assert len(limiter._intervals) == EVENTS_MOST + 1
    assert limiter.suppressed_total == 9 * EVENTS_MOST - BURST_LINES


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2 * SECOND_US))))
def test_each_line_is_let_through_or_told_of_later_and_none_is_counted_twice(storm: list[tuple[str, int]]) -> None:
    limiter, now_us, through, told = LogLimiter(), 0, 0, 0
    for event, pause_us in storm:
        now_us += pause_us
        suppressed = limiter.admit(event, now_us)
        through += suppressed is not None
        told += suppressed or 0
    told += sum(limiter.take_suppressed().values())
    assert through + told == len(storm)
    assert told == limiter.suppressed_total


# Through a node, whose clock stands still until the test moves it.


def lines_of(lines: Sequence[EventDict], event: str) -> list[EventDict]:
    return [line for line in lines if line["event"] == event]


class Rude:
    """Sends what is no message and waits for the refusals."""

    def __init__(self, endpoint: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.connect(endpoint)

    def storm(self, count: int) -> None:
        for _ in range(count):
            self.socket.send(b"\xc1")
        for _ in range(count):
            assert self.socket.poll(int(DEADLINE_S * 1000))
            self.socket.recv_multipart()

    def close(self) -> None:
        self.socket.close(linger=0)
        self.context.term()


def test_a_storm_of_bad_messages_costs_a_node_ten_lines_and_is_counted(folder: Path) -> None:
    now_us = [SECOND_US]
    with capture_logs() as lines:
        running = Running(folder, clock=lambda: now_us[0])
        rude = Rude(running.endpoint)
        rude.storm(STORM)
        assert len(lines_of(lines, "message_refused")) == BURST_LINES
        now_us[0] += INTERVAL_US
        rude.storm(1)
        families = {family.name: family for family in running.node.snapshots.ask(DEADLINE_S)}
        rude.close()
        running.quit()
        running.join()
    last = lines_of(lines, "message_refused")[-1]
    assert (last["log_level"], last["link"], last["suppressed"]) == ("warning", "hcall", STORM - BURST_LINES)
    assert "garbage: expected a msgpack map" in last["why"]
    assert families["vasbus_log_lines_suppressed_total"].samples[0].value == STORM - BURST_LINES
    refused = families["vasbus_messages_refused_total"].samples
    assert [(sample.labels, sample.value) for sample in refused] == [(("hcall", "garbage"), STORM + 1)]


class DoomedCore(CountingCore):
    """Ends with a failure at the first HELLO, and has a lot to say about it."""

    def _admit(self, hello: Hello) -> Refused | None:
        for number in range(STORM):
            self.effects.note("error", "why_it_ends", number=number)
        self.effects.exit = Exit(ExitCode.REFUSED, "the end")
        return None


def test_what_is_said_with_the_end_of_a_process_is_all_logged(folder: Path) -> None:
    core = DoomedCore()
    for _ in range(STORM):
        core.effects.note("warning", "before", window_id=1)
    with capture_logs() as lines:
        running = Running(folder, core=core)
        running.quit()
        assert running.join().code is ExitCode.REFUSED
    assert [line["number"] for line in lines_of(lines, "why_it_ends")] == list(range(STORM))
    assert [line["lines"] for line in lines_of(lines, "log_lines_suppressed")] == [{"before": STORM - BURST_LINES}]
    assert lines[-1] == {"event": "process_failed", "log_level": "error", "code": "REFUSED", "why": "the end"}
