"""Paste acceptance, close, completion and translation faults against a model that only keeps a log.

The unit counts credits, slots and jobs as it goes; the model looks them up in the log of requests each time.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nxunit.job import Job
from protocol.codes import CreditType
from protocol.fabric_messages import ContextClosed, CreditReturned
from protocol.message import Message
from tests.nxunit.bench import FENCE_US, Bench, done, everything, stopped
from tests.nxunit.request_log import DEPTH, TABLE, Entry, Opening, RequestLog

RARELY = st.integers(0, 4)
TOKENS = (b"token number one", b"token number two")


class PasteMachine(RequestLog, RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(fifo_depth=DEPTH, windows_per_unit=TABLE)
        self.openings: list[Opening] = []
        self.log: list[Entry] = []
        self.job: Job | None = None
        self.accepted = self.recomputed = 0

    # What may happen.

    @initialize()
    def begin_with_windows(self) -> None:
        for window_id, window_credits in ((1, 1), (2, 2), (3, 1)):
            self.program(window_id, TOKENS[0], qos=window_id == 3, window_credits=window_credits, process_id=1)

    @rule(
        window_id=st.integers(1, 4), token=st.sampled_from((TOKENS[0], *TOKENS)), qos=st.booleans(),
        window_credits=st.sampled_from((0, 1, 1, 1, 2)), process_id=st.integers(1, 2),
    )  # fmt: skip
    def program(self, window_id: int, token: bytes, qos: bool, window_credits: int, process_id: int) -> None:
        opening = self.opening(window_id)
        if opening is None:
            possible = len(self.openings) < TABLE
        else:
            same = (opening.token, opening.qos, opening.credits, opening.process_id) == (
                token, qos, window_credits, process_id,
            )  # fmt: skip
            possible = not opening.shut and (same or not self.open_requests(opening))
        said = self.bench.program(
            window_id, CreditType.QOS if qos else CreditType.DEFAULT, token=token, window_credits=window_credits,
            process_id=process_id,
        )  # fmt: skip
        assert said is possible
        if not possible:
            return
        if opening is not None and opening.token == token:
            opening.qos, opening.credits, opening.process_id = qos, window_credits, process_id
            return
        if opening is not None:
            self.openings.remove(opening)
        self.openings.append(Opening(window_id, token, qos, window_credits, process_id))

    @rule(
        window_id=st.sampled_from((1, 2, 2, 3, 4)), guess=st.sampled_from((None,) * 8 + (*TOKENS, b"a guess of token")),
        step=st.sampled_from((1, 1, 2, 3, 0, 0, 5, -1)), size=st.integers(0, 9),
        client=st.sampled_from((b"client", b"other client")),
    )  # fmt: skip
    def paste(self, window_id: int, guess: bytes | None, step: int, size: int, client: bytes) -> None:
        opening = self.opening(window_id)
        token = TOKENS[0] if opening is None else opening.token
        token = token if guess is None else guess
        last = None if opening is None else self.last(opening)
        number = max(0, (0 if last is None else last.number) + step)
        verdict = self.verdict(window_id, token, number)
        said = self.bench.paste(window_id, number, bytes(size), token=token, peer=client)
        word = {"accepted again": "accepted", "repeat": "accepted"}.get(verdict, verdict)
        assert said == ([] if verdict == "nothing" else [(word, number)])
        if verdict == "accepted again":
            assert last is not None
            last.client = client
        elif verdict in ("accepted", "repeat"):
            assert opening is not None
            self.accepted += verdict == "accepted"
            self.recomputed += verdict == "repeat"
            self.log.append(Entry(opening, number, size, client, verdict == "repeat", opening.qos))

    @rule(window_id=st.integers(1, 4), chance=RARELY)
    def close(self, window_id: int, chance: int) -> None:
        if chance:
            return
        opening = self.opening(window_id)
        number = self.bench.close(window_id)
        if opening is None:
            assert self.bench.answer(number) == ContextClosed(window_id=window_id, bytes_processed=0)
            return
        opening.shut = True
        opening.waiting_closes.append(number)
        self.expect_closed_if_drained(opening)

    def expect_closed_if_drained(self, opening: Opening) -> None:
        if not opening.shut:
            return
        expected: Message | None = None
        if not self.open_requests(opening):
            self.openings.remove(opening)
            finished = (entry for entry in self.log if entry.window is opening and not entry.had_fault)
            total = sum(entry.size for entry in finished if not entry.is_repeat)
            expected = ContextClosed(window_id=opening.window_id, bytes_processed=total)
        assert all(self.bench.answer(number) == expected for number in opening.waiting_closes)

    @precondition(lambda self: self.job is None)
    @rule()
    def take(self) -> None:
        next_entry = next(iter(self.queue(True) + self.queue(False)), None)
        self.job = self.bench.unit.take_job(self.bench.now_us)
        assert (self.job is None) is (next_entry is None)
        if self.job is not None and next_entry is not None:
            assert len(self.job.frame) == next_entry.size
            next_entry.held_low = self.held_low(next_entry)
            assert self.job.low_limit is next_entry.held_low
            next_entry.stage = "running"

    @precondition(lambda self: self.job is not None)
    @rule()
    def finish(self) -> None:
        assert self.job is not None
        entry = next(entry for entry in self.log if entry.stage == "running")
        before = len(self.bench.told)
        self.bench.unit.finish(self.job, done(self.job), self.bench.now_us)
        self.bench.pump()
        self.job = None
        entry.stage = "over"
        told = [(told.peer, *told.brief) for told in self.bench.told[before:]]
        assert told == [(entry.client, "completed", entry.number)]
        self.expect_closed_if_drained(entry.window)

    @precondition(lambda self: self.job is not None)
    @rule()
    def stop_at_an_absent_page(self) -> None:
        assert self.job is not None
        entry = next(entry for entry in self.log if entry.stage == "running")
        before = len(self.bench.told)
        self.bench.unit.finish(self.job, stopped(self.job), self.bench.now_us)
        self.bench.pump()
        self.job = None
        entry.stage, entry.had_fault = "faulted", True
        assert len(self.bench.told) == before
        assert self.bench.faults_told()[-1] == (entry.window.window_id, entry.number)

    @precondition(lambda self: self.faults())
    @rule(data=st.data())
    def fetch(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.faults()))
        window_id = entry.window.window_id
        number = self.bench.give_back(window_id, entry.number)
        assert self.bench.answer(number) == CreditReturned(window_id=window_id, number=entry.number)
        entry.stage = "over"
        self.expect_closed_if_drained(entry.window)

    @rule(window_id=st.integers(1, 4), number=st.integers(0, 5))
    def fetch_again(self, window_id: int, number: int) -> None:
        if any((entry.window.window_id, entry.number) == (window_id, number) for entry in self.faults()):
            return
        answer = self.bench.answer(self.bench.give_back(window_id, number))
        assert answer == CreditReturned(window_id=window_id, number=number)

    @rule(chance=st.integers(0, 20))
    def hypervisor_forgets_the_session(self, chance: int) -> None:
        if chance:
            return
        self.bench.restart_hypervisor()
        self.bench.advance(4_000, step_ms=500)
        for opening in self.openings:
            opening.waiting_closes.clear()
        held = [(entry.window.window_id, entry.number) for entry in self.faults()]
        assert sorted(self.bench.faults_told()) == sorted(held)

    @rule()
    def take_and_finish(self) -> None:
        """As often as not the engine is fast."""
        if self.job is None:
            self.take()
        if self.job is not None:
            self.finish()

    @precondition(lambda self: self.openings)
    @rule(chance=st.integers(0, 20))
    def fence(self, chance: int) -> None:
        if chance:
            return
        reachable: Callable[[Message], bool] = self.bench.lose
        self.bench.lose = everything
        self.bench.advance(FENCE_US // 1000 + 1_000, step_ms=1_000)
        self.bench.lose = reachable
        self.bench.advance(4_000, step_ms=500)
        if self.job is not None:
            before = len(self.bench.told)
            self.bench.unit.finish(self.job, done(self.job), self.bench.now_us)
            self.bench.pump()
            assert len(self.bench.told) == before
            self.job = None
        self.openings.clear()
        for entry in self.log:
            entry.stage = "over"

    # What holds at all times.

    @invariant()
    def contexts_are_those_of_the_model(self) -> None:
        # Not by ListContexts: a close that waits lets only 64 later requests onto the wire.
        held = sorted(context.window_id for context in self.bench.unit.contexts)
        assert held == sorted(opening.window_id for opening in self.openings)

    @invariant()
    def counters_are_those_of_the_log(self) -> None:
        statistics = self.bench.unit.statistics()
        assert (statistics.accepted, statistics.recomputed) == (self.accepted, self.recomputed)
        assert (statistics.high_queued, statistics.normal_queued) == (len(self.queue(True)), len(self.queue(False)))
        assert statistics.normal_queued <= DEPTH
        assert statistics.faults_outstanding == len(self.faults())
        for opening in self.openings:
            assert len([entry for entry in self.faults() if entry.window is opening]) <= opening.credits + 1


TestPasteMachine = PasteMachine.TestCase
TestPasteMachine.settings = settings(deadline=None, max_examples=250, stateful_step_count=50)
