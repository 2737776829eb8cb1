"""Compression of input of any size, on NX units."""

from __future__ import annotations

import gzip
import subprocess
import zlib
from random import Random

import pytest

from lpar.client import Lpar, NxError, NxGzip
from lpar.client.framing import read_gzip_header
from protocol.codes import CompletionCode, FallbackReason, FunctionCode
from protocol.paste_messages import Paste
from tests.client.kernel import LIMIT
from tests.client.world import World
from tests.fidelity.rows import fidelity

PART = 65_536
"""The request limit in these tests: the smallest that the client takes."""
TEXT = b"".join(b"line %d of the text that is compressed\n" % number for number in range(8_000))
NOISE = Random(1).randbytes(3 * PART)


@pytest.fixture
def nx(world: World, lpar: Lpar) -> NxGzip:
    limit_to(world, PART)
    return NxGzip(lpar)


def limit_to(world: World, limit_bytes: int) -> None:
    """What the kernel says and the units hold to."""
    world.kernel.files[LIMIT] = f"{limit_bytes}\n"
    for unit in world.units.values():
        unit.limit_bytes = limit_bytes


def requests_with_more_room(world: World) -> int:
    """Requests that were a second try with a larger target."""
    return world.nx0.too_small + world.nx1.too_small


def functions(world: World) -> list[tuple[FunctionCode, int, bool]]:
    """Function, history and finality of each paste."""
    crbs = [envelope.body.crb for envelope in world.sent_of(Paste) if isinstance(envelope.body, Paste)]
    return [(FunctionCode(crb.function), crb.history_bytes, crb.final) for crb in crbs]


def test_every_part_of_gzip_is_a_member_with_its_lengths(nx: NxGzip) -> None:
    output = nx.compress(TEXT)
    assert gzip.decompress(output) == TEXT
    position, lengths = 0, []
    while position < len(output):
        header = read_gzip_header(memoryview(output), position, zlib.crc32)
        assert header.member_bytes is not None
        lengths.append(header.raw_bytes)
        position += header.member_bytes
    assert lengths == [PART] * (len(TEXT) // PART) + [len(TEXT) % PART]


def test_the_gzip_command_reads_it(nx: NxGzip) -> None:
    output = nx.compress(TEXT)
    result = subprocess.run(["gzip", "-dc"], input=output, capture_output=True, check=True)
    assert result.stdout == TEXT
    subprocess.run(["gzip", "-t"], input=output, check=True)


def test_zlib_and_raw_are_one_stream_with_history_between_the_parts(world: World, nx: NxGzip) -> None:
    assert zlib.decompress(nx.compress(TEXT, "zlib")) == TEXT
    seen = functions(world)
    assert seen[0] == (FunctionCode.COMPRESS_DHT, 0, False)
    assert {entry[:2] for entry in seen[1:]} == {(FunctionCode.COMPRESS_RESUME_DHT, 32_768)}
    assert [entry[2] for entry in seen] == [False] * (len(seen) - 1) + [True]
    assert zlib.decompress(nx.compress(TEXT, "raw"), -15) == TEXT


@fidelity(
    "7 libnxz",
    "A job brings at most req_max_processed_len bytes, as sysfs has it; where that cannot be read, 1 MiB.",
    source="LNX:lib/nx_zlib.c",
)
def test_no_request_exceeds_the_limit(world: World, nx: NxGzip) -> None:
    sizes: list[int] = []
    world.before_delivery = lambda _key, envelope: sizes.extend(len(frame) for frame in envelope.frames)
    nx.compress(TEXT, "raw")
    assert max(sizes) == PART


@fidelity(
    "7 libnxz",
    "CC 3 with the partial bit is a normal suspension: what was processed and made is accounted for, and the stream "
    "goes on from there.",
    source="LNX:lib/nx_deflate.c",
)
@pytest.mark.parametrize("name", ["gzip", "zlib", "raw"])
def test_a_unit_that_suspends_at_its_low_limit_is_given_the_rest(world: World, nx: NxGzip, name: str) -> None:
    for unit in world.units.values():
        unit.limit_bytes = 40_000
    if name == "gzip":
        output = gzip.decompress(nx.compress(TEXT))
    else:
        output = zlib.decompress(nx.compress(TEXT, "zlib" if name == "zlib" else "raw"), 15 if name == "zlib" else -15)
    assert output == TEXT
    assert nx.statistics().compress.nx_bytes == len(TEXT)


@pytest.mark.parametrize("data", [b"", b"x"])
@pytest.mark.parametrize("mode", ["auto", "nx", "software", "mix"])
def test_almost_nothing_compresses_in_every_mode(lpar: Lpar, mode: str, data: bytes) -> None:
    nx = NxGzip(lpar, mode)
    assert gzip.decompress(nx.compress(data)) == data
    assert zlib.decompress(nx.compress(data, "zlib")) == data
    assert zlib.decompress(nx.compress(data, "raw"), -15) == data
    assert nx.decompress(nx.compress(data)) == data
    assert nx.statistics().compress.is_balanced


@fidelity(
    "7 libnxz",
    "CC 64, and CC 0 where output and history together are longer than the input, is done again as stored blocks, "
    "whose data a Wrap job copies.",
    source="LNX:lib/nx_deflate.c",
    differs="The library makes the stored blocks itself, of the data in its hands with the checksums of the CSB, and "
    "only where they are shorter than the output: a history costs nothing here.",
)
def test_output_that_would_grow_is_stored_instead(world: World, nx: NxGzip) -> None:
    for unit in world.units.values():
        unit.grows = True
    for compressed in (nx.compress(NOISE, "raw"), nx.compress(NOISE)):
        assert len(compressed) < len(NOISE) + 3 * 64
    assert gzip.decompress(nx.compress(NOISE)) == NOISE
    assert zlib.decompress(nx.compress(NOISE, "zlib")) == NOISE
    assert nx.statistics().compress.nx_bytes == 4 * len(NOISE)
    assert nx.statistics().stored_parts == nx.statistics().requests - requests_with_more_room(world)


@fidelity(
    "7 libnxz",
    "CC 64, and CC 0 where output and history together are longer than the input, is done again as stored blocks, "
    "whose data a Wrap job copies.",
    source="LNX:lib/nx_deflate.c",
    differs="The library makes the stored blocks itself, of the data in its hands with the checksums of the CSB, and "
    "only where they are shorter than the output: a history costs nothing here.",
)
def test_a_part_that_shrank_is_not_stored_for_its_history(world: World, nx: NxGzip) -> None:
    """A last part shorter than its history, which it repeats."""
    data = NOISE[: PART + 1_000] + NOISE[PART - 1_000 : PART + 1_000]
    output = nx.compress(data, "raw")
    assert zlib.decompress(output, -15) == data
    *_, last = world.sent_of(Paste)
    assert isinstance(last.body, Paste)
    source_bytes = len(last.frames[0]) - last.body.crb.history_bytes
    assert source_bytes < last.body.crb.history_bytes
    assert len(output) < len(data)
    assert nx.statistics().stored_parts == 1, "only the first part grew"


@fidelity(
    "7 libnxz",
    "CC 13 halves the source (down to 64 KiB for deflate, 300 bytes for inflate) and starts again, however often.",
    source="LNX:lib/nx_deflate.c",
    differs="The target is the library's own here: it is doubled, up to the largest there is; only then inflate halves "
    "its source, down to 300 bytes, and gives up there.",
)
def test_a_target_that_was_too_small_is_made_larger(world: World, nx: NxGzip) -> None:
    for unit in world.units.values():
        unit.codes = [CompletionCode.TARGET_SPACE, CompletionCode.TARGET_SPACE, CompletionCode.OK]
    data = TEXT[:5000]
    assert gzip.decompress(nx.compress(data)) == data
    targets = [envelope.body.crb.target_bytes for envelope in world.sent_of(Paste) if isinstance(envelope.body, Paste)]
    assert targets == [targets[0], 2 * targets[0], 4 * targets[0]]


@pytest.mark.parametrize("code", [CompletionCode.HARDWARE, CompletionCode.INVALID_CRB, CompletionCode.DATA_LENGTH])
def test_a_request_the_unit_cannot_do_is_done_in_software(world: World, nx: NxGzip, code: CompletionCode) -> None:
    for unit in world.units.values():
        unit.codes = [code]
    data = TEXT[:5000]
    assert gzip.decompress(nx.compress(data)) == data
    assert nx.statistics().compress.fallback[FallbackReason.DATA] == len(data)


def test_in_mode_nx_that_is_an_error(world: World, lpar: Lpar) -> None:
    for unit in world.units.values():
        unit.codes = [CompletionCode.HARDWARE]
    with pytest.raises(NxError) as caught:
        NxGzip(lpar, "nx").compress(TEXT[:5000])
    assert caught.value.reason is FallbackReason.DATA


def test_small_calls_stay_in_software_in_mode_auto_only(world: World, lpar: Lpar) -> None:
    automatic, strict = NxGzip(lpar), NxGzip(lpar, "nx")
    automatic.compress(bytes(1024))
    assert automatic.statistics().compress.fallback[FallbackReason.SMALL] == 1024
    assert not world.sent_of(Paste)
    automatic.compress(bytes(1025))
    strict.compress(bytes(10))
    assert len(world.sent_of(Paste)) == 2


def test_data_may_be_any_buffer(nx: NxGzip) -> None:
    for data in (bytearray(TEXT), memoryview(TEXT), memoryview(TEXT).cast("H")):
        assert gzip.decompress(nx.compress(data)) == TEXT


def test_unknown_words_are_refused(lpar: Lpar) -> None:
    with pytest.raises(ValueError, match="fast"):
        NxGzip(lpar, mode="fast")
    with pytest.raises(ValueError, match="wait"):
        NxGzip(lpar, on_suspend="wait")
    with pytest.raises(ValueError, match="lz4"):
        NxGzip(lpar, fallback="lz4")
    with pytest.raises(ValueError, match="format"):
        NxGzip(lpar).compress(b"", "bzip2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="format"):
        NxGzip(lpar).decompress(b"", "bzip2")  # type: ignore[arg-type]


def test_statistics_are_frozen_and_count_output(nx: NxGzip) -> None:
    before = nx.statistics()
    output = nx.compress(TEXT)
    after = nx.statistics()
    assert (before.compress.calls, before.compress.bytes_out) == (0, 0)
    assert (after.compress.calls, after.compress.bytes_out) == (1, len(output))
    assert (after.opens, after.requests, after.pastes) == (1, len(TEXT) // PART + 1, len(TEXT) // PART + 1)


def test_a_closed_nx_gzip_has_given_its_window_back(world: World, lpar: Lpar) -> None:
    with NxGzip(lpar) as nx:
        nx.compress(TEXT)
        assert len(world.kernel.windows) == 1
    assert world.kernel.windows == []


@fidelity(
    "7 libnxz",
    "A job brings at most req_max_processed_len bytes, as sysfs has it; where that cannot be read, 1 MiB.",
    source="LNX:lib/nx_zlib.c",
)
@pytest.mark.parametrize("text", ["junk\n", "", "17\n", "99999999999\n", None])
def test_a_limit_file_that_is_odd_or_missing_does_no_harm(world: World, lpar: Lpar, text: str | None) -> None:
    world.kernel.files.pop(LIMIT)
    if text is not None:
        world.kernel.files[LIMIT] = text
    data = TEXT * 5
    world.sent.clear()
    assert gzip.decompress(NxGzip(lpar).compress(data)) == data
    if text in ("junk\n", "", None):
        assert max(len(envelope.frames[0]) for envelope in world.sent_of(Paste)) == 1 << 20
