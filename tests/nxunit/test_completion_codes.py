"""Every completion code that the unit can give, and those that it cannot, which are others' or of no use here."""

from __future__ import annotations

import pytest

from nxunit import engine
from nxunit.deflate import IsalError
from nxunit.engine import Engine
from nxunit.job import Job
from protocol.codes import CompletionCode, FunctionCode
from tests.fidelity.rows import fidelity
from tests.nxunit.jobs import NOISE, TEXT, is_terminated, job, raw_deflate

ENGINE = Engine(1 << 20)
STREAM = raw_deflate(TEXT[:500])
NOT_GIVEN = {
    CompletionCode.BYTE_COUNT_MAX: "is for other engines than gzip: a longer request is suspended (DATA_LENGTH)",
    CompletionCode.TRANSLATION_FAULT: "is written by the kernel, which fetches the fault",
}
GIVEN: dict[CompletionCode, Job] = {
    CompletionCode.OK: job(FunctionCode.DECOMPRESS, STREAM),
    CompletionCode.DATA_LENGTH: job(FunctionCode.DECOMPRESS, STREAM[:-1]),
    CompletionCode.INVALID_OPERAND: job(FunctionCode.DECOMPRESS_RESUME, STREAM, resume=b"unknown token 16"),
    CompletionCode.TARGET_SPACE: job(FunctionCode.DECOMPRESS, STREAM, target_bytes=499),
    CompletionCode.INVALID_FUNCTION: job(0x20, STREAM),
    CompletionCode.INVALID_CRB: job(FunctionCode.WRAP, STREAM, history=b"h"),
    CompletionCode.TPBC_GREATER: job(FunctionCode.COMPRESS_FHT, NOISE[:100]),
    CompletionCode.BAD_HUFFMAN_CODE: job(FunctionCode.DECOMPRESS, b"\x07\x00"),
    CompletionCode.INVALID_DISTANCE: job(FunctionCode.DECOMPRESS, b"\x4b\x04\xf2\x00\x00"),
    CompletionCode.INVALID_DHT: job(FunctionCode.DECOMPRESS, b"\xfd\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("code", GIVEN)
def test_the_unit_gives_the_code(code: CompletionCode) -> None:
    assert ENGINE.complete(GIVEN[code]).csb.code is code


@fidelity(
    "2 requests",
    "A job that the watchdog stops is completion code 224, terminated.",
    source="UM p.66-71",
    differs="There is no watchdog: it is how a request ends whose engine fails or has no memory.",
)
@pytest.mark.parametrize("problem", [MemoryError, IsalError])
def test_an_engine_that_fails_ends_the_request_with_code_224(
    monkeypatch: pytest.MonkeyPatch, problem: type[Exception]
) -> None:
    def fail(*_arguments: object, **_names: object) -> bytes:
        raise problem

    monkeypatch.setattr(engine, "deflate", fail)
    monkeypatch.setattr(engine, "inflate", fail)
    for function in (FunctionCode.COMPRESS_DHT, FunctionCode.DECOMPRESS, FunctionCode.DECOMPRESS_SINGLE_BLOCK):
        assert is_terminated(ENGINE.complete(job(function, STREAM)), CompletionCode.HARDWARE)


def test_there_is_no_code_besides() -> None:
    assert {*GIVEN, CompletionCode.HARDWARE, *NOT_GIVEN} == set(CompletionCode)
