"""Decompression: ours and anybody's, in resumed pieces, checked to the last bit."""

from __future__ import annotations

import gzip
import io
import subprocess
import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpar.client import CorruptData, DataError, Lpar, NxError, NxGzip, OutputLimit, TruncatedData
from lpar.client.gzip_work import Format
from protocol.codes import CompletionCode, FallbackReason, FunctionCode
from protocol.paste_messages import Paste
from tests.client.test_compress import NOISE, PART, TEXT, limit_to
from tests.client.world import World

MIXED = TEXT[:150_000] + NOISE[:50_000] + TEXT[150_000:]


@pytest.fixture
def nx(world: World, lpar: Lpar) -> NxGzip:
    limit_to(world, PART)
    return NxGzip(lpar)


def resumed(world: World) -> int:
    bodies = [envelope.body for envelope in world.sent_of(Paste)]
    return sum(isinstance(body, Paste) and body.crb.function == FunctionCode.DECOMPRESS_RESUME for body in bodies)


def test_members_of_ours_are_handed_to_units_one_request_each(world: World, nx: NxGzip) -> None:
    compressed = nx.compress(TEXT)
    world.sent.clear()
    assert nx.decompress(compressed) == TEXT
    assert len(world.sent_of(Paste)) == len(TEXT) // PART + 1
    assert resumed(world) == 0
    assert nx.statistics().decompress.nx_bytes == len(compressed)


def test_gzip_of_others_is_resumed_piece_by_piece(world: World, nx: NxGzip) -> None:
    compressed = gzip.compress(MIXED)
    assert nx.decompress(compressed) == MIXED
    assert resumed(world) >= len(MIXED) // PART
    picture = nx.statistics().decompress
    assert (picture.nx_bytes, picture.software_bytes, picture.bytes_out) == (len(compressed), 0, len(MIXED))


def test_many_members_names_and_trailing_zeros_are_read(nx: NxGzip) -> None:
    buffer = io.BytesIO()
    with gzip.GzipFile("name.txt", "wb", fileobj=buffer) as file:
        file.write(TEXT[:3000])
    compressed = buffer.getvalue() + gzip.compress(b"") + gzip.compress(NOISE) + bytes(1000)
    assert nx.decompress(compressed) == TEXT[:3000] + NOISE
    assert nx.statistics().decompress.bytes_in == len(compressed)


def test_what_the_gzip_command_wrote_is_read(nx: NxGzip) -> None:
    compressed = subprocess.run(["gzip", "-9c"], input=MIXED, capture_output=True, check=True).stdout
    assert nx.decompress(compressed) == MIXED


@pytest.mark.parametrize("level", [0, 1, 9])
def test_zlib_is_recognised_and_raw_has_to_be_named(nx: NxGzip, level: int) -> None:
    assert nx.decompress(zlib.compress(MIXED, level)) == MIXED
    machine = zlib.compressobj(level, zlib.DEFLATED, -15)
    raw = machine.compress(MIXED) + machine.flush()
    assert nx.decompress(raw, "raw") == MIXED


def test_everything_compressed_here_comes_back(nx: NxGzip) -> None:
    assert nx.decompress(nx.compress(MIXED)) == MIXED
    assert nx.decompress(nx.compress(MIXED, "zlib")) == MIXED
    assert nx.decompress(nx.compress(MIXED, "raw"), "raw") == MIXED


def test_very_compressible_data_comes_out_in_many_requests(world: World, nx: NxGzip) -> None:
    data = bytes(40 * PART)
    assert nx.decompress(zlib.compress(data)) == data
    assert resumed(world) >= 39


def test_a_target_that_was_too_small_is_made_larger(world: World, nx: NxGzip) -> None:
    for unit in world.units.values():
        unit.limit_bytes = 1 << 20
    assert nx.decompress(gzip.compress(TEXT)) == TEXT
    assert nx.statistics().decompress.software_bytes == 0


@pytest.mark.parametrize("mode", ["auto", "software", "nx"])
@pytest.mark.parametrize("name", ["gzip", "zlib"])
def test_a_flipped_bit_is_reported_and_never_passed_on(world: World, lpar: Lpar, mode: str, name: str) -> None:
    limit_to(world, PART)
    nx = NxGzip(lpar, mode)
    data = MIXED[100_000:220_000]
    compressed = nx.compress(data, "gzip" if name == "gzip" else "zlib")
    random = Random(7)
    for place in [*range(min(len(compressed), 40)), *(random.randrange(len(compressed)) for _ in range(40))]:
        damaged = bytearray(compressed)
        damaged[place] ^= 1 << random.randrange(8)
        with pytest.raises(DataError):
            nx.decompress(damaged)


@pytest.mark.parametrize("mode", ["auto", "software"])
@pytest.mark.parametrize("name", ["gzip", "zlib", "raw", "foreign"])
def test_data_that_ends_early_is_truncated(world: World, lpar: Lpar, mode: str, name: str) -> None:
    limit_to(world, PART)
    nx = NxGzip(lpar, mode)
    data = MIXED[100_000:160_000]
    form: Format = "zlib" if name == "zlib" else "raw" if name == "raw" else "gzip"
    compressed = gzip.compress(data) if name == "foreign" else nx.compress(data, form)
    for length in (1, 2, 9, 17, 30, len(compressed) // 2, len(compressed) - 9, len(compressed) - 1):
        with pytest.raises(DataError):
            nx.decompress(compressed[:length], form)


def test_no_data_is_truncated_and_other_formats_are_named(nx: NxGzip) -> None:
    with pytest.raises(TruncatedData):
        nx.decompress(b"")
    with pytest.raises(CorruptData, match="neither gzip nor zlib"):
        nx.decompress(b"BZh91AY&SY" * 10)
    with pytest.raises(CorruptData, match="follows"):
        nx.decompress(zlib.compress(TEXT) + b"more")
    with pytest.raises(CorruptData, match="follows"):
        nx.decompress(nx.compress(TEXT, "raw") + b"more", "raw")
    with pytest.raises(CorruptData, match="no gzip member"):
        nx.decompress(gzip.compress(TEXT) + b"more of something else")


@pytest.mark.parametrize("mode", ["auto", "software"])
def test_output_beyond_the_limit_is_refused(world: World, lpar: Lpar, mode: str) -> None:
    limit_to(world, PART)
    nx = NxGzip(lpar, mode)
    bomb = bytes(2 << 20)
    for compressed in (gzip.compress(bomb), zlib.compress(bomb), nx.compress(bomb)):
        with pytest.raises(OutputLimit):
            nx.decompress(compressed, max_bytes=1 << 20)
        assert len(nx.decompress(compressed, max_bytes=2 << 20)) == 2 << 20


def test_a_unit_that_calls_the_data_bad_is_believed(nx: NxGzip) -> None:
    compressed = bytearray(zlib.compress(TEXT))
    compressed[2] = 0x07
    with pytest.raises(CorruptData, match="Huffman"):
        nx.decompress(compressed)


def test_a_unit_that_forgot_its_resume_token_is_replaced_by_software(world: World, nx: NxGzip) -> None:
    compressed = gzip.compress(MIXED)

    def forget(_key: str, _envelope: object) -> None:
        if resumed(world) == 3:
            for unit in world.units.values():
                unit.states.clear()

    world.before_delivery = forget
    assert nx.decompress(compressed) == MIXED
    picture = nx.statistics()
    assert picture.restarts == 1
    assert picture.decompress.fallback[FallbackReason.DATA] > 0
    assert picture.decompress.nx_bytes > 0
    assert picture.decompress.bytes_in == len(compressed)
    assert picture.decompress.is_balanced


def test_a_unit_lost_half_way_is_replaced_by_software(world: World, nx: NxGzip) -> None:
    compressed = gzip.compress(MIXED)

    def suspend(_key: str, _envelope: object) -> None:
        if resumed(world) == 3:
            world.before_delivery = lambda _key, _envelope: None
            world.kernel.suspend()

    world.before_delivery = suspend
    assert nx.decompress(compressed) == MIXED
    picture = nx.statistics()
    assert (picture.restarts, picture.suspensions) == (1, 1)
    assert picture.decompress.fallback[FallbackReason.WINDOW_SUSPENDED] > 0
    assert picture.decompress.bytes_in == len(compressed)


def test_other_trouble_on_the_unit_is_an_error_in_mode_nx(world: World, lpar: Lpar) -> None:
    for unit in world.units.values():
        unit.codes = [CompletionCode.HARDWARE]
    with pytest.raises(NxError) as caught:
        NxGzip(lpar, "nx").decompress(gzip.compress(TEXT))
    assert caught.value.reason is FallbackReason.DATA


def test_mix_decompresses_in_software(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar, "mix")
    compressed = nx.compress(TEXT)
    world.sent.clear()
    assert nx.decompress(compressed) == TEXT
    assert not world.sent_of(Paste)
    picture = nx.statistics()
    assert picture.decompress.fallback[FallbackReason.MODE] == len(compressed)
    assert picture.compress.nx_bytes == len(TEXT)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["gzip", "zlib", "raw", None]), st.booleans())
def test_noise_never_comes_out_as_data_without_a_checksum(noise: bytes, form: Format | None, software: bool) -> None:
    nx = NxGzip(World().lpar(), "software" if software else "auto", small_bytes=-1)
    try:
        nx.decompress(noise, form)
    except DataError:
        return
    assert form == "raw" or noise[:1] in (b"\x1f", b"x")
