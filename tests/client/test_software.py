"""The software codecs by themselves."""

from __future__ import annotations

import sys
import zlib

import pytest

from lpar.client import CodecMissing, CorruptData, OutputLimit, TruncatedData
from lpar.client.software import Software

DATA = b"software takes over " * 5000


@pytest.fixture
def software() -> Software:
    return Software()


def test_pieces_with_history_make_one_stream(software: Software) -> None:
    first = software.deflate(DATA[:60_000], b"", final=False)
    second = software.deflate(DATA[60_000:], DATA[60_000 - 32_768 : 60_000], final=True)
    assert zlib.decompress(first + second, -15) == DATA
    assert len(second) < 200


def test_inflating_skips_what_was_delivered(software: Software) -> None:
    stream = software.deflate(DATA, b"", final=True)
    result = software.inflate(stream + b"trailer", 12_345, len(DATA))
    assert result.output == DATA[12_345:]
    assert (result.skipped_bytes, result.consumed_bytes) == (12_345, len(stream))
    assert (result.crc32, result.adler32) == (zlib.crc32(DATA), zlib.adler32(DATA))


def test_inflating_more_than_the_limit_stops_there(software: Software) -> None:
    bomb = software.deflate(bytes(50 << 20), b"", final=True)
    with pytest.raises(OutputLimit):
        software.inflate(bomb, 0, 1 << 20)


def test_damaged_and_short_streams_are_named(software: Software) -> None:
    stream = software.deflate(DATA, b"", final=True)
    with pytest.raises(TruncatedData):
        software.inflate(stream[:-1], 0, len(DATA))
    with pytest.raises(CorruptData):
        software.inflate(b"\xff" + stream, 0, len(DATA))
    with pytest.raises(TruncatedData):
        software.inflate(b"", 0, 10)


def test_lzo_gives_back_exactly_what_it_took(software: Software) -> None:
    pytest.importorskip("lzo")
    block = software.lzo_compress(DATA)
    assert len(block) < len(DATA)
    assert software.lzo_decompress(block, len(DATA)) == DATA
    for wrong in (len(DATA) - 1, len(DATA) + 1):
        with pytest.raises(CorruptData):
            software.lzo_decompress(block, wrong)
    with pytest.raises(CorruptData):
        software.lzo_decompress(block[:-3], len(DATA))


def test_lzo_that_is_not_installed_is_named(software: Software, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzo", None)
    with pytest.raises(CodecMissing, match="python-lzo"):
        software.lzo_compress(DATA)


def test_a_level_that_zlib_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 9"):
        Software(10)
