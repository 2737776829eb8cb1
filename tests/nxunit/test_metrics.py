"""A unit's metrics show what its counters and tables say."""

from __future__ import annotations

import pytest

from nxunit.job import Completion, Job, TranslationFault
from protocol.clock import MILLISECOND_US
from protocol.codes import CompletionCode, CreditType, FunctionCode, Operand
from protocol.metrics import Distribution, MetricKind
from protocol.paste_messages import Crb
from tests.nxunit.bench import FENCE_US, Bench, done, everything, stopped


@pytest.fixture
def bench() -> Bench:
    bench = Bench(fifo_depth=2)
    for window_id in (1, 2, 3, 4):
        bench.program(window_id)
    bench.program(10, CreditType.QOS)
    return bench


def samples(bench: Bench, name: str) -> dict[tuple[str, ...], float | Distribution]:
    """The values of a family by labels."""
    (family,) = (family for family in bench.unit.metrics() if family.name == name)
    assert all(len(sample.labels) == len(family.label_names) for sample in family.samples)
    return {sample.labels: sample.value for sample in family.samples}


def shown(bench: Bench, name: str) -> dict[str, float]:
    """The values of a family with one label that are not 0."""
    return {labels[0]: value for labels, value in samples(bench, name).items()
            if not isinstance(value, Distribution) and value}  # fmt: skip


def alone(bench: Bench, name: str) -> float | Distribution:
    """The value of a family without labels."""
    return samples(bench, name)[()]


def observed(bench: Bench, name: str, label: str) -> tuple[int, int]:
    """How often, and how long in all."""
    distribution = samples(bench, name)[(label,)]
    assert isinstance(distribution, Distribution)
    return sum(distribution.counts), distribution.sum_us


def test_pastes_by_what_became_of_them(bench: Bench) -> None:
    bench.paste(1, 5)
    bench.paste(1, 5)
    bench.paste(1, 4)
    bench.paste(1, 6)
    bench.paste(2, 1)
    bench.paste(3, 1)
    bench.paste(9, 1)
    bench.paste(4, 1, token=bytes(16))
    bench.close(2)
    bench.paste(2, 2)
    bench.work()
    bench.paste(1, 5)
    bench.unit.stop(bench.now_us)
    bench.paste(4, 1)
    assert shown(bench, "vasbus_nx_pastes_total") == {
        "accepted": 2, "repeated": 1, "recomputed": 1, "outdated": 1, "refused_no_window_credit": 1,
        "refused_fifo_full": 1, "refused_stopping": 1, "faulted_unknown_window": 1, "faulted_wrong_token": 1,
        "faulted_closing": 1,
    }  # fmt: skip


def test_requests_by_completion_code_and_bytes_without_history(bench: Bench) -> None:
    crb = Crb(function=FunctionCode.COMPRESS_RESUME_DHT, target_bytes=100, history_bytes=4)

    def longer(job: Job) -> Completion:
        outcome = done(job)
        csb = outcome.csb.model_copy(update={"code": CompletionCode.TPBC_GREATER, "target_bytes": 7})
        return Completion(csb, b"7 bytes")

    bench.paste(1, 1, b"histdata!", crb=crb)
    bench.work()
    bench.paste(1, 2, b"abc")
    bench.work(longer)
    bench.paste(1, 2, b"abc")
    bench.work(longer)
    assert shown(bench, "vasbus_nx_requests_total") == {"OK": 1, "TPBC_GREATER": 1}
    assert alone(bench, "vasbus_nx_source_bytes_total") == 5 + 3
    assert alone(bench, "vasbus_nx_target_bytes_total") == 5 + 7


def test_translation_faults_by_operand_and_those_outstanding(bench: Bench) -> None:
    operands = {1: Operand.SOURCE, 2: Operand.TARGET, 3: Operand.TARGET, 4: Operand.CSB}

    def stop(job: Job) -> TranslationFault:
        return TranslationFault(operands[job.crb.target_bytes], 0)

    for window_id in operands:
        bench.paste(window_id, 1, crb=Crb(function=FunctionCode.WRAP, target_bytes=window_id))
        bench.work(stop)
    assert shown(bench, "vasbus_nx_translation_faults_total") == {"source": 1, "target": 2, "csb": 1}
    assert alone(bench, "vasbus_nx_faults_outstanding") == 4
    bench.give_back(2, 1)
    assert alone(bench, "vasbus_nx_faults_outstanding") == 3
    assert shown(bench, "vasbus_nx_translation_faults_total") == {"source": 1, "target": 2, "csb": 1}
    assert shown(bench, "vasbus_nx_requests_total") == {}


def test_fifos_and_contexts(bench: Bench) -> None:
    bench.program(11, CreditType.QOS)
    bench.paste(1, 1)
    bench.paste(2, 1)
    bench.paste(10, 1)
    assert shown(bench, "vasbus_nx_fifo_requests") == {"high": 1, "normal": 2}
    assert shown(bench, "vasbus_nx_fifo_slots") == {"high": 4, "normal": 2}
    assert shown(bench, "vasbus_nx_contexts") == {"default": 4, "qos": 2}
    bench.work()
    bench.close(11)
    assert shown(bench, "vasbus_nx_fifo_requests") == {"normal": 2}
    assert shown(bench, "vasbus_nx_contexts") == {"default": 4, "qos": 1}


def test_fences(bench: Bench) -> None:
    assert alone(bench, "vasbus_nx_fences_total") == 0
    bench.lose = everything
    bench.advance(FENCE_US // MILLISECOND_US + 1_000, step_ms=500)
    assert alone(bench, "vasbus_nx_fences_total") == 1
    assert shown(bench, "vasbus_nx_contexts") == {}


def test_times_in_the_queue_by_priority_and_in_the_engine_by_function(bench: Bench) -> None:
    crb = Crb(function=FunctionCode.COMPRESS_DHT | 1, target_bytes=100)
    bench.paste(1, 1, crb=crb)
    bench.paste(10, 1, crb=Crb(function=0xFF, target_bytes=100))
    bench.now_us += 300
    for run in (done, stopped):
        job = bench.unit.take_job(bench.now_us)
        assert job is not None
        bench.now_us += 2_000
        bench.unit.finish(job, run(job), bench.now_us)
    assert observed(bench, "vasbus_nx_queue_seconds", "high") == (1, 300)
    assert observed(bench, "vasbus_nx_queue_seconds", "normal") == (1, 2_300)
    assert observed(bench, "vasbus_nx_job_seconds", "COMPRESS_DHT") == (1, 2_000)
    assert observed(bench, "vasbus_nx_job_seconds", "unknown") == (1, 2_000)


def test_a_job_that_a_fence_dropped_is_not_timed(bench: Bench) -> None:
    bench.paste(1, 1)
    job = bench.unit.take_job(bench.now_us)
    assert job is not None
    bench.now_us += FENCE_US + 1
    bench.unit.finish(job, done(job), bench.now_us)
    assert samples(bench, "vasbus_nx_job_seconds") == {}


def test_families_are_named_and_there_from_the_start() -> None:
    families = {family.name: family for family in Bench().unit.metrics()}
    assert len(families) == 12
    for name, family in families.items():
        assert name.startswith("vasbus_nx_")
        assert name.endswith("_total") is (family.kind is MetricKind.COUNTER)
        assert name.endswith("_seconds") is (family.kind is MetricKind.HISTOGRAM)
        assert family.meaning
        assert family.samples or name == "vasbus_nx_job_seconds"
