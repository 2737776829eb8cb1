"""Requests that faulted, sent again: with the real engine behind the unit."""

from __future__ import annotations

from nxunit.core import FAULTS_WAIT_US
from nxunit.engine import Engine
from nxunit.job import Job, Outcome
from nxunit.resume import RESUME_LIFE_US
from protocol import fabric_messages as fabric
from protocol.clock import MILLISECOND_US
from protocol.codes import CompletionCode, FunctionCode, Operand
from protocol.paste_messages import PAGE_BYTES, Crb, PasteCompleted
from tests.nxunit.bench import Bench
from tests.nxunit.jobs import TEXT, raw_deflate

FAULTS_WAIT_MS = FAULTS_WAIT_US // MILLISECOND_US


def test_a_faulted_resume_is_replayed_from_its_token_however_late_the_fault_is_fetched(bench: Bench) -> None:
    plain = TEXT[:12_000]
    stream = raw_deflate(plain)
    engine = Engine(4_096)
    bench.paste(1, 1, stream, crb=Crb(function=FunctionCode.DECOMPRESS, target_bytes=1 << 20))
    bench.work(engine.run)
    first = bench.told[-1]
    assert isinstance(first.body, PasteCompleted)
    rest, resume = stream[first.body.csb.processed_bytes :], first.body.csb.resume
    absent = Crb(function=FunctionCode.DECOMPRESS_RESUME, target_bytes=1 << 20, resume=resume, target_pages=b"\xfe")
    bench.paste(1, 2, rest, crb=absent)
    assert bench.work(engine.run) == []
    bench.advance(2 * RESUME_LIFE_US // MILLISECOND_US, step_ms=1_000)
    bench.paste(2, 1, stream, crb=Crb(function=FunctionCode.DECOMPRESS, target_bytes=1 << 20))
    assert bench.work(engine.run) == [("completed", 1)]
    assert bench.unit.statistics().suspended == 2, "another window's state does not push it out"
    bench.give_back(1, 2)
    bench.advance((RESUME_LIFE_US - 1_000_000) // MILLISECOND_US, step_ms=1_000)
    bench.paste(1, 3, rest, crb=absent.model_copy(update={"target_pages": b""}))
    assert bench.work(engine.run) == [("completed", 3)]
    second = bench.told[-1]
    assert isinstance(second.body, PasteCompleted)
    assert second.body.csb.code is CompletionCode.DATA_LENGTH
    assert first.frames[0] + second.frames[0] == plain[:8_192]
    bench.advance(RESUME_LIFE_US // MILLISECOND_US, step_ms=1_000)
    bench.paste(1, 4, rest, crb=absent.model_copy(update={"target_pages": b""}))
    bench.work(engine.run)
    late = bench.told[-1].body
    assert isinstance(late, PasteCompleted)
    assert late.csb.code is CompletionCode.INVALID_OPERAND, "after the fault its life is what it ever was"


def test_a_client_that_touches_each_page_gets_its_data(bench: Bench) -> None:
    """One absent page after another, as their faults name them, until the request completes."""
    source = TEXT[: 3 * PAGE_BYTES]
    engine = Engine()
    source_pages, target_pages, csb_present = 0, 0, False
    for number in range(1, 20):
        crb = Crb(
            function=FunctionCode.WRAP, target_bytes=4 * PAGE_BYTES, source_pages=bytes([source_pages]),
            target_pages=bytes([target_pages]), csb_present=csb_present,
        )  # fmt: skip
        bench.paste(1, number, source, crb=crb)
        if bench.work(engine.run):
            break
        body = bench.told_of(fabric.FaultRaised)[-1].body
        assert isinstance(body, fabric.FaultRaised)
        if body.operand is Operand.SOURCE:
            source_pages |= 1 << (body.fault_address - crb.source_address) // PAGE_BYTES
        elif body.operand is Operand.TARGET:
            target_pages |= 1 << (body.fault_address - crb.target_address) // PAGE_BYTES
        else:
            csb_present = True
        bench.give_back(1, number)
    assert bench.told[-1].frames == (source,)
    assert (source_pages, target_pages) == (0b111, 0b111), "the fourth page of the target is never written"
    assert dict(bench.unit.statistics().translation_faults) == {
        Operand.SOURCE: 3, Operand.TARGET: 3, Operand.CSB: 1,
    }  # fmt: skip


def test_a_faulting_request_is_the_same_fault_when_it_is_run_again() -> None:
    """The engine is a function of the job alone."""
    crb = Crb(function=FunctionCode.COMPRESS_DHT, target_bytes=1 << 20, source_pages=b"\xfb")
    job = Job(crb, TEXT[: 4 * PAGE_BYTES])
    outcomes: set[Outcome] = {Engine().run(job) for _ in range(3)}
    assert len(outcomes) == 1
