"""Resume tokens: bound to their window, bounded in number, expiring, the same for a repeated request."""

from __future__ import annotations

from dataclasses import dataclass

from nxunit.engine import Engine
from nxunit.job import Completion, Job
from nxunit.resume import RESUME_LIFE_US, SuspendedJobs, WindowKey
from protocol.codes import CompletionCode, FunctionCode
from protocol.paste_messages import Crb, CsbBody, PasteCompleted
from tests.fidelity.rows import fidelity
from tests.nxunit.bench import Bench, token_of
from tests.nxunit.jobs import TEXT, raw_deflate

PLAIN = TEXT[:12_000]
STREAM = raw_deflate(PLAIN)
ENGINE = Engine(4_096)


@dataclass(frozen=True)
class Marker:
    """A state that is only told apart from others."""

    name: str
    skip_bytes: int = 0


def window(number: int) -> WindowKey:
    return number, token_of(number)


def decompress(bench: Bench, number: int, source: bytes, resume: bytes = b"", window_id: int = 1) -> CsbBody:
    """One decompression through the unit."""
    function = FunctionCode.DECOMPRESS_RESUME if resume else FunctionCode.DECOMPRESS
    crb = Crb(function=function, target_bytes=1 << 20, resume=resume)
    assert bench.paste(window_id, number, source, crb=crb) == [("accepted", number)]
    assert bench.work(ENGINE.run) == [("completed", number)]
    body = bench.told[-1].body
    assert isinstance(body, PasteCompleted)
    return body.csb


def started() -> tuple[Bench, CsbBody]:
    bench = Bench()
    bench.program(1)
    bench.program(2)
    return bench, decompress(bench, 1, STREAM)


@fidelity(
    "2 requests",
    "A decompression is resumed from its history and from CPB fields (SUBC, SFBT, RemByteCnt, DHT) that the "
    "sender keeps.",
    source="UM p.59",
    differs="The unit keeps the state and gives a token for it; a history can be given only where a block begins at a "
    "whole byte.",
)
def test_a_stream_is_finished_over_several_pastes_with_repeats() -> None:
    bench, csb = started()
    output, position, number = bench.told[-1].frames[0], csb.processed_bytes, 1
    while not csb.ended:
        number += 1
        resume = csb.resume
        csb = decompress(bench, number, STREAM[position:], resume)
        target = bench.told[-1].frames[0]
        again = decompress(bench, number, STREAM[position:], resume)
        assert (again, bench.told[-1].frames[0]) == (csb, target), "a lost completion is computed again, token and all"
        output, position = output + target, position + csb.processed_bytes
    assert output == PLAIN
    assert position == len(STREAM)
    assert bench.unit.statistics().bytes_in == len(STREAM)


@fidelity(
    "2 requests",
    "An invalid operand is completion code 8.",
    source="UM p.66-71",
    differs="It is what a resume token that the unit does not keep (any more) ends with.",
)
def test_a_token_is_of_no_use_to_another_window() -> None:
    bench, csb = started()
    stolen = decompress(bench, 1, STREAM[csb.processed_bytes :], csb.resume, window_id=2)
    assert stolen.code is CompletionCode.INVALID_OPERAND
    assert decompress(bench, 2, STREAM[csb.processed_bytes :], csb.resume).code is CompletionCode.DATA_LENGTH


@fidelity(
    "2 requests",
    "An invalid operand is completion code 8.",
    source="UM p.66-71",
    differs="It is what a resume token that the unit does not keep (any more) ends with.",
)
def test_a_guessed_token_is_an_invalid_operand() -> None:
    bench, csb = started()
    guess = bytes(15) + b"\x01"
    assert decompress(bench, 2, STREAM[csb.processed_bytes :], guess).code is CompletionCode.INVALID_OPERAND


@fidelity(
    "2 requests",
    "An invalid operand is completion code 8.",
    source="UM p.66-71",
    differs="It is what a resume token that the unit does not keep (any more) ends with.",
)
def test_a_token_expires() -> None:
    bench, csb = started()
    bench.advance(RESUME_LIFE_US // 1000, step_ms=1000)
    assert decompress(bench, 2, STREAM[csb.processed_bytes :], csb.resume).code is CompletionCode.INVALID_OPERAND


def test_a_closed_windows_tokens_are_gone() -> None:
    bench, csb = started()
    bench.close(1)
    assert bench.unit.statistics().suspended == 0
    bench.program(1)
    assert decompress(bench, 1, STREAM[csb.processed_bytes :], csb.resume).code is CompletionCode.INVALID_OPERAND


def test_a_window_id_used_again_does_not_inherit_tokens() -> None:
    bench, csb = started()
    bench.program(1, token=b"another token 16")
    body = Crb(function=FunctionCode.DECOMPRESS_RESUME, target_bytes=1 << 20, resume=csb.resume)
    bench.paste(1, 1, STREAM[csb.processed_bytes :], token=b"another token 16", crb=body)
    outcomes: list[Completion] = []

    def run(job: Job) -> Completion:
        outcomes.append(ENGINE.complete(job))
        return outcomes[-1]

    bench.work(run)
    assert outcomes[0].csb.code is CompletionCode.INVALID_OPERAND


def test_at_the_limit_the_window_that_holds_most_loses_its_oldest() -> None:
    kept = SuspendedJobs(b"secret", limit=3)
    modest = kept.keep(window(1), 1, b"", (0,), Marker("modest"), 0)
    greedy = [kept.keep(window(2), number, b"", (0,), Marker(f"greedy {number}"), number) for number in range(1, 6)]
    assert len(kept) == 3
    assert kept.find(window(1), modest, 10) == Marker("modest")
    assert [kept.find(window(2), token, 10) is not None for token in greedy] == [False, False, False, True, True]


def test_a_state_stays_until_its_successor_has_been_used() -> None:
    kept = SuspendedJobs(b"secret")
    first = kept.keep(window(1), 1, b"", (0,), Marker("first"), 0)
    second = kept.keep(window(1), 2, first, (0,), Marker("second"), 0)
    assert kept.find(window(1), first, 0) == Marker("first")
    assert kept.find(window(1), second, 0) == Marker("second")
    assert kept.find(window(1), first, 0) is None


def test_using_a_state_keeps_it_alive() -> None:
    kept = SuspendedJobs(b"secret")
    token = kept.keep(window(1), 1, b"", (0,), Marker("state"), 0)
    assert kept.find(window(1), token, RESUME_LIFE_US - 1) is not None
    assert kept.find(window(1), token, 2 * RESUME_LIFE_US - 2) is not None
    assert kept.find(window(1), token, 3 * RESUME_LIFE_US) is None


def test_tokens_depend_on_the_units_secret_and_on_what_was_done() -> None:
    tokens = {
        SuspendedJobs(secret).keep(window(number), paste, parent, progress, Marker(""), 0)
        for secret in (b"one", b"two")
        for number in (1, 2)
        for paste in (1, 2)
        for parent in (b"", b"p" * 16)
        for progress in ((1, 2), (1, 3))
    }
    assert len(tokens) == 32
