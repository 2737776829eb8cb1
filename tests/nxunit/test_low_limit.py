"""While a high-priority request waits, the job that the engine takes is held to the low byte-count limit."""

from __future__ import annotations

import pytest

from nxunit.engine import Engine
from nxunit.job import Completion, Job
from protocol.codes import CompletionCode, CreditType, FunctionCode
from protocol.paste_messages import HISTORY_MAX_BYTES, Crb, CsbBody, PasteCompleted
from tests.fidelity.rows import fidelity
from tests.nxunit.bench import Bench, done
from tests.nxunit.jobs import NOISE, TEXT, raw_deflate, raw_inflate

LOW = 40_000
PLAIN = TEXT[:150_000] + NOISE[:50_000]


@pytest.fixture
def bench() -> Bench:
    """Windows 1 and 2 of default type, 10 and 11 with QoS credits."""
    bench = Bench()
    for window_id in (1, 2):
        bench.program(window_id)
    for window_id in (10, 11):
        bench.program(window_id, CreditType.QOS)
    return bench


def work_and_look(bench: Bench) -> bool:
    """Do one job; whether it was held to the low limit."""
    jobs: list[Job] = []

    def run(job: Job) -> Completion:
        jobs.append(job)
        return done(job)

    bench.work(run)
    return jobs[0].low_limit


@fidelity(
    "2 accelerator",
    "While a high-priority request waits the job is held to the low limit, whichever priority it has.",
    source="UM p.64",
)
def test_a_job_is_held_while_a_high_priority_request_waits_behind_it(bench: Bench) -> None:
    bench.paste(10, 1)
    bench.paste(11, 1)
    bench.paste(1, 1)
    assert [work_and_look(bench) for _ in range(3)] == [True, False, False]


@fidelity("2 accelerator", "Without high priority waiting the high limit applies.", source="UM p.64")
def test_normal_requests_that_wait_hold_nobody(bench: Bench) -> None:
    bench.paste(1, 1)
    bench.paste(2, 1)
    bench.paste(10, 1)
    assert [work_and_look(bench) for _ in range(3)] == [False, False, False]


@fidelity(
    "2 accelerator",
    "A high-priority request that arrives while a job runs holds that job to the low limit.",
    source="UM p.56-57",
    differs="A job runs whole; held is one that begins while high priority waits, and since that goes first it has "
    "high priority itself.",
)
def test_what_arrives_after_the_engine_took_the_job_does_not_hold_it(bench: Bench) -> None:
    bench.paste(1, 1)
    job = bench.unit.take_job(bench.now_us)
    bench.paste(10, 1)
    assert job is not None
    assert not job.low_limit


@pytest.mark.parametrize("held", [True, False])
def test_a_repeat_is_held_as_the_request_was_that_it_repeats(bench: Bench, held: bool) -> None:
    """Or it would give another answer than the one that was lost, and other bytes would have been counted."""
    bench.paste(10, 1)
    if held:
        bench.paste(11, 1)
    assert work_and_look(bench) is held
    bench.work()
    bench.paste(10, 1)
    if not held:
        bench.paste(11, 2)
    assert work_and_look(bench) is held


class Client:
    """Sends what is left of its source until there is none, as NX has processed it."""

    def __init__(self, bench: Bench, engine: Engine) -> None:
        self.bench = bench
        self.engine = engine
        self.number = 0

    def request(self, crb: Crb, frame: bytes) -> tuple[CsbBody, bytes]:
        """One request while another QoS window waits."""
        self.number += 1
        self.bench.paste(10, self.number, frame, crb=crb)
        self.bench.paste(11, self.number, b"waiting")
        self.bench.work(self.engine.run)
        told = self.bench.told[-1]
        self.bench.work()
        assert isinstance(told.body, PasteCompleted)
        return told.body.csb, told.frames[0]

    def compress(self, plain: bytes) -> bytes:
        stream, position = b"", 0
        while position < len(plain):
            history = plain[max(position - HISTORY_MAX_BYTES, 0) : position]
            function = FunctionCode.COMPRESS_RESUME_DHT if history else FunctionCode.COMPRESS_DHT
            crb = Crb(function=function, target_bytes=1 << 20, history_bytes=len(history))
            csb, target = self.request(crb, history + plain[position:])
            assert csb.code in (CompletionCode.OK, CompletionCode.TPBC_GREATER, CompletionCode.DATA_LENGTH)
            stream, position = stream + target, position + csb.processed_bytes - len(history)
        return stream

    def decompress(self, stream: bytes) -> bytes:
        plain, position, resume, ended = b"", 0, b"", False
        while not ended:
            function = FunctionCode.DECOMPRESS_RESUME if resume else FunctionCode.DECOMPRESS
            csb, target = self.request(Crb(function=function, target_bytes=1 << 20, resume=resume), stream[position:])
            plain, position, resume, ended = plain + target, position + csb.processed_bytes, csb.resume, csb.ended
        return plain

    def copy(self, plain: bytes) -> bytes:
        copied, position = b"", 0
        while position < len(plain):
            csb, target = self.request(Crb(function=FunctionCode.WRAP, target_bytes=1 << 20), plain[position:])
            copied, position = copied + target, position + csb.processed_bytes
        return copied


@fidelity("2 accelerator", "What a limit has suspended is finished by requests that resume.", source="UM p.56-57")
def test_a_client_that_resumes_gets_all_its_data(bench: Bench) -> None:
    client = Client(bench, Engine(low_limit_bytes=LOW))
    assert raw_inflate(client.compress(PLAIN)) == PLAIN
    compressions = client.number
    assert client.decompress(raw_deflate(PLAIN)) == PLAIN
    decompressions = client.number - compressions
    assert client.copy(PLAIN) == PLAIN
    assert client.number - compressions - decompressions == len(PLAIN) // LOW
    assert compressions > len(PLAIN) // LOW, "the history counts towards the limit"
    assert decompressions == len(PLAIN) // LOW


@fidelity(
    "2 accelerator",
    "A byte-count limit of 0 is none.",
    source="UM p.64",
    differs="A low limit of 0 leaves the request limit, which is always there.",
)
def test_a_low_limit_of_0_lets_each_request_finish(bench: Bench) -> None:
    client = Client(bench, Engine(low_limit_bytes=0))
    assert raw_inflate(client.compress(PLAIN)) == PLAIN
    assert client.decompress(raw_deflate(PLAIN)) == PLAIN
    assert client.copy(PLAIN) == PLAIN
    assert client.number == 3
