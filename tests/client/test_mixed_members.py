"""fallback="lzo": tagged members, deflate from NX units and LZO from software in one stream."""

from __future__ import annotations

import sys
from random import Random

import pytest

from lpar.client import CodecMissing, CorruptData, DataError, Lpar, NxError, NxGzip, OutputLimit, TruncatedData
from lpar.client.framing import MEMBER_MAGIC, MemberCodec, MemberHeader, read_member_header
from protocol.codes import FallbackReason
from tests.client.test_compress import NOISE, PART, TEXT, limit_to
from tests.client.world import World

pytest.importorskip("lzo")


@pytest.fixture
def nx(world: World, lpar: Lpar) -> NxGzip:
    limit_to(world, PART)
    return NxGzip(lpar, fallback="lzo")


def members(data: bytes) -> list[MemberHeader]:
    """The heads of all members."""
    heads: list[MemberHeader] = []
    position = 0
    while position < len(data):
        heads.append(read_member_header(memoryview(data), position))
        position = heads[-1].payload + heads[-1].payload_bytes
    return heads


def test_members_of_both_codecs_mix_and_come_back(world: World, nx: NxGzip) -> None:
    def suspend_for_a_while(_key: str, _envelope: object) -> None:
        if world.nx0.executed + world.nx1.executed == 2:
            world.before_delivery = lambda _key, _envelope: None
            world.kernel.suspend()
            world.later(300, world.kernel.resume)

    nx.compress(TEXT[:2000])
    world.before_delivery = suspend_for_a_while
    output = nx.compress(TEXT)
    heads = members(output)
    assert {head.codec for head in heads} == {MemberCodec.DEFLATE, MemberCodec.LZO}
    assert [head.last for head in heads] == [False] * (len(heads) - 1) + [True]
    assert sum(head.raw_bytes for head in heads) == len(TEXT)
    assert nx.decompress(output) == TEXT
    picture = nx.statistics()
    assert picture.compress.is_balanced
    assert picture.decompress.is_balanced
    assert picture.decompress.fallback[FallbackReason.DATA] > 0
    assert picture.decompress.bytes_in == len(output)
    assert (picture.suspensions, picture.resumptions) == (1, 1)


@pytest.mark.parametrize("mode", ["auto", "software"])
@pytest.mark.parametrize("data", [b"", b"x", TEXT[:1000], NOISE])
def test_anything_comes_back(world: World, lpar: Lpar, mode: str, data: bytes) -> None:
    limit_to(world, PART)
    nx = NxGzip(lpar, mode, fallback="lzo")
    output = nx.compress(data)
    assert output[:4] == MEMBER_MAGIC
    assert len(output) < len(data) + 200
    assert nx.decompress(output) == data
    assert NxGzip(lpar).decompress(output) == data


def test_a_unit_that_suspends_at_its_low_limit_gives_smaller_members(world: World, nx: NxGzip) -> None:
    for unit in world.units.values():
        unit.limit_bytes = 40_000
    output = nx.compress(TEXT)
    assert {head.codec for head in members(output)} == {MemberCodec.DEFLATE}
    assert nx.decompress(output) == TEXT


def test_a_flipped_bit_is_reported_and_never_passed_on(world: World, lpar: Lpar) -> None:
    limit_to(world, PART)
    nx = NxGzip(lpar)
    half = len(TEXT) // 2
    output = NxGzip(lpar, "software", fallback="lzo").compress(TEXT[:half])
    output2 = NxGzip(lpar, fallback="lzo").compress(TEXT[:half])
    random = Random(5)
    for whole in (output, output2):
        for place in [*range(25), *(random.randrange(len(whole)) for _ in range(60))]:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << random.randrange(8)
            with pytest.raises(DataError):
                nx.decompress(damaged)


def test_missing_members_and_members_too_many_are_reported(nx: NxGzip) -> None:
    output = nx.compress(TEXT)
    heads = members(output)
    with pytest.raises(TruncatedData, match="last member is missing"):
        nx.decompress(output[: heads[-1].payload - 17])
    with pytest.raises(CorruptData, match="follows the last"):
        nx.decompress(output + output)


def test_the_output_limit_is_known_before_anything_comes_out(nx: NxGzip) -> None:
    with pytest.raises(OutputLimit):
        nx.decompress(nx.compress(TEXT), max_bytes=len(TEXT) - 1)


def test_lzo_members_need_software_which_mode_nx_forbids(lpar: Lpar) -> None:
    output = NxGzip(lpar, "software", fallback="lzo").compress(TEXT)
    with pytest.raises(NxError) as caught:
        NxGzip(lpar, "nx").decompress(output)
    assert caught.value.reason is FallbackReason.DATA


def test_other_formats_cannot_be_mixed(nx: NxGzip) -> None:
    with pytest.raises(ValueError, match="no other format"):
        nx.compress(TEXT, "zlib")


def test_lzo_that_is_not_installed_is_named_at_once(lpar: Lpar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzo", None)
    with pytest.raises(CodecMissing):
        NxGzip(lpar, fallback="lzo")
    NxGzip(lpar)


@pytest.mark.parametrize("mode", ["auto", "nx", "mix", "software"])
def test_nothing_at_all_comes_back_in_every_mode(lpar: Lpar, mode: str) -> None:
    nx = NxGzip(lpar, mode=mode, fallback="lzo")
    assert nx.decompress(nx.compress(b"")) == b""
