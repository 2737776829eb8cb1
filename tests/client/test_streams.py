"""gzip from file to file: any size, any writer, in pieces, checked before anything is let through."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpar.client import CorruptData, DataError, Lpar, NxError, NxGzip, TruncatedData
from lpar.client.streams import PART_BYTES, compress_stream, decompress_stream
from protocol.codes import CompletionCode, FallbackReason, FunctionCode
from protocol.paste_messages import Crb, Paste
from protocol.wire import Envelope
from tests.client.test_compress import NOISE, TEXT, limit_to
from tests.client.unit import Outcome
from tests.client.world import World

LONG = (TEXT + NOISE) * (3_000_000 // len(TEXT + NOISE))
BOMB_BYTES = 96 << 20
MEMORY_BOUND_BYTES = 48 << 20


class Pipe(io.RawIOBase):
    """A source that cannot seek and gives as little as it likes at a time."""

    def __init__(self, data: bytes, seed: int = 0) -> None:
        self.rest = io.BytesIO(data)
        self.random = Random(seed)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def readinto(self, room: object) -> int:
        view = memoryview(room).cast("B")  # type: ignore[arg-type]
        return self.rest.readinto(view[: self.random.randint(1, max(1, len(view)))])


def sources(data: bytes) -> list[io.BytesIO | io.BufferedReader]:
    return [io.BytesIO(data), io.BufferedReader(Pipe(data))]


def compressed(nx: NxGzip, data: bytes) -> bytes:
    target = io.BytesIO()
    assert compress_stream(nx, io.BytesIO(data), target) == len(target.getvalue())
    return target.getvalue()


def decompressed(nx: NxGzip, data: bytes, *, hold_back: bool = True) -> bytes:
    target = io.BytesIO()
    assert decompress_stream(nx, io.BytesIO(data), target, hold_back=hold_back) == len(target.getvalue())
    return target.getvalue()


@pytest.fixture
def nx(lpar: Lpar) -> NxGzip:
    return NxGzip(lpar)


@pytest.mark.parametrize("length", [0, 1, 2000, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, len(LONG)])
def test_what_is_written_is_gzip_to_everybody_and_to_us(nx: NxGzip, length: int) -> None:
    packed = compressed(nx, LONG[:length])
    assert gzip.decompress(packed) == LONG[:length]
    assert decompressed(nx, packed) == LONG[:length]


def test_a_source_that_cannot_seek_is_compressed_in_whole_parts(nx: NxGzip) -> None:
    for source in sources(LONG):
        target = io.BytesIO()
        compress_stream(nx, source, target)
        assert target.getvalue() == compressed(nx, LONG)


def test_units_with_a_smaller_limit_make_more_members(world: World, nx: NxGzip) -> None:
    limit_to(world, 65_536)
    assert decompressed(nx, compressed(nx, LONG)) == LONG


def test_a_member_of_ours_is_one_request(world: World, nx: NxGzip) -> None:
    packed = compressed(nx, TEXT[:200_000])
    world.sent.clear()
    assert decompressed(nx, packed) == TEXT[:200_000]
    assert len(world.sent_of(Paste)) == 1


def test_a_large_member_of_others_goes_to_units_in_resumed_pieces(world: World, nx: NxGzip) -> None:
    packed = gzip.compress(LONG, 1)
    for source in sources(packed):
        target = io.BytesIO()
        decompress_stream(nx, source, target)
        assert target.getvalue() == LONG
    functions = [paste.body.crb.function for paste in world.sent_of(Paste) if isinstance(paste.body, Paste)]
    assert FunctionCode.DECOMPRESS_RESUME in functions
    picture = nx.statistics().decompress
    assert (picture.nx_bytes, picture.software_bytes, picture.bytes_in) == (2 * len(packed), 0, 2 * len(packed))


def test_members_names_comments_and_trailing_zeros_are_read(nx: NxGzip) -> None:
    named = io.BytesIO()
    with gzip.GzipFile("n" * 9_000, "wb", fileobj=named) as file:
        file.write(TEXT[:3000])
    data = named.getvalue() + gzip.compress(b"") + gzip.compress(NOISE) + bytes(10_000)
    assert decompressed(nx, data) == TEXT[:3000] + NOISE
    picture = nx.statistics().decompress
    assert picture.bytes_in == len(data)
    assert picture.is_balanced


def test_something_after_the_zeros_is_damage(nx: NxGzip) -> None:
    data = gzip.compress(TEXT) + bytes(5_000)
    with pytest.raises(CorruptData, match=f"zero bytes that begin at byte {len(data) - 5_000}"):
        decompressed(nx, data + b"x")


@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize("pastes", [0, 1, 2])
def test_software_takes_over_within_a_member(world: World, nx: NxGzip, pastes: int, seekable: bool) -> None:
    """What a unit knew of the stream is lost with it: software starts anew and gives out only the rest."""
    packed = gzip.compress(LONG, 1) + gzip.compress(NOISE)
    seen = 0

    def lose_the_credit(_key: str, envelope: Envelope) -> None:
        nonlocal seen
        if isinstance(envelope.body, Paste):
            seen += 1
            if seen == pastes + 1:
                world.kernel.suspend()

    world.before_delivery = lose_the_credit
    target = io.BytesIO()
    decompress_stream(nx, sources(packed)[0 if seekable else 1], target, hold_back=False)
    assert target.getvalue() == LONG + NOISE
    picture = nx.statistics()
    assert picture.decompress.is_balanced
    assert picture.decompress.bytes_in == len(packed)
    assert picture.decompress.fallback[FallbackReason.WINDOW_SUSPENDED] > 0
    assert picture.restarts == (1 if pastes > 0 else 0)


def test_output_of_a_unit_that_software_does_not_find_again_is_damage(world: World, nx: NxGzip) -> None:
    """The rest would be right, and the checksum of the whole as software computes it too."""
    honest = world.nx0.execute

    def lie(crb: Crb, frame: bytes, number: int) -> Outcome:
        csb, target = honest(crb, frame, number)
        world.kernel.suspend()
        return csb, b"?" + target[1:]

    world.nx0.execute = world.nx1.execute = lie  # type: ignore[method-assign]
    with pytest.raises(CorruptData, match="other output than the stream holds"):
        decompressed(nx, gzip.compress(LONG, 1), hold_back=False)


def test_a_unit_that_stops_anywhere_changes_nothing(world: World, nx: NxGzip) -> None:
    random = Random(7)
    for unit in world.units.values():
        unit.suspend_at = lambda: random.randint(1, 400_000)
    assert decompressed(nx, gzip.compress(LONG, 1)) == LONG


def test_strict_modes_do_not_fall_back(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar, mode="nx")
    world.nx0.codes = [CompletionCode.HARDWARE]
    world.nx1.codes = [CompletionCode.HARDWARE]
    with pytest.raises(NxError):
        decompressed(nx, gzip.compress(LONG))


def test_small_files_and_mode_software_never_ask_a_unit(world: World, lpar: Lpar) -> None:
    assert decompressed(NxGzip(lpar), gzip.compress(TEXT[:500])) == TEXT[:500]
    software = NxGzip(lpar, mode="software")
    assert decompressed(software, gzip.compress(LONG)) == LONG
    assert software.statistics().decompress.fallback[FallbackReason.MODE] == len(gzip.compress(LONG))
    assert not world.sent_of(Paste)


def test_what_was_damaged_on_its_way_to_a_unit_is_not_written(nx: NxGzip, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit's checksum fits what it was given, which is not what we gave."""
    work = nx.compress
    monkeypatch.setattr(nx, "compress", lambda part: work(b"?" + bytes(part[1:])))
    target = io.BytesIO()
    with pytest.raises(CorruptData, match="not what was given"):
        compress_stream(nx, io.BytesIO(TEXT), target)
    assert target.getvalue() == b""


def test_lzo_is_no_gzip(lpar: Lpar) -> None:
    pytest.importorskip("lzo")
    with pytest.raises(ValueError, match="gzip"):
        compress_stream(NxGzip(lpar, fallback="lzo"), io.BytesIO(b""), io.BytesIO())


@pytest.mark.parametrize("seekable", [True, False])
def test_memory_is_bounded_whatever_comes_out(lpar: Lpar, seekable: bool) -> None:
    """A thousandfold expansion, in a member that says nothing of it. In software: the pretended unit keeps it all."""
    machine = zlib.compressobj(1, zlib.DEFLATED, 31)
    packed = b"".join(machine.compress(bytes(1 << 20)) for _ in range(BOMB_BYTES >> 20)) + machine.flush()
    nx = NxGzip(lpar, mode="software")
    with open("/dev/null", "wb") as target:
        tracemalloc.start()
        decompress_stream(nx, sources(packed)[0 if seekable else 1], target)
        _now, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak_bytes < MEMORY_BOUND_BYTES


def test_progress_only_rises_and_ends_at_the_whole_file(world: World, nx: NxGzip) -> None:
    packed = gzip.compress(LONG, 1)
    heard: list[int] = []

    def note(offset: int) -> None:
        heard.append(offset)
        if len(heard) == 2:
            world.kernel.suspend()

    decompress_stream(nx, io.BufferedReader(Pipe(packed)), io.BytesIO(), note)
    assert heard == sorted(heard)
    assert heard[-1] == len(packed)


# Damage.

OURS, THEIRS = "ours", "theirs"
CONTENT = TEXT[:70_000] + NOISE[:9_000]


def sample(writer: str) -> tuple[bytes, list[int]]:
    """Three members, and where each begins."""
    parts = [CONTENT, CONTENT[::-1], CONTENT[:100]]
    world = World()
    nx = NxGzip(world.lpar())
    members = [nx.compress(part) if writer == OURS else gzip.compress(part, 1, mtime=0) for part in parts]
    starts = [sum(map(len, members[:place])) for place in range(len(members) + 1)]
    return b"".join(members), starts


SAMPLES = {writer: sample(writer) for writer in (OURS, THEIRS)}
WHOLE = [b"", CONTENT, CONTENT + CONTENT[::-1], CONTENT + CONTENT[::-1] + CONTENT[:100]]


@given(
    writer=st.sampled_from([OURS, THEIRS]),
    place=st.sampled_from(["header", "deflate", "trailer", "anywhere"]),
    member=st.integers(0, 2),
    depth=st.integers(0, 1 << 20),
    bit=st.integers(0, 7),
    mode=st.sampled_from(["auto", "software"]),
)
@settings(max_examples=150, deadline=None)
def test_no_flipped_bit_is_passed_on(writer: str, place: str, member: int, depth: int, bit: int, mode: str) -> None:
    """It is reported, or it was one that means nothing (padding; the writer's time and system in others' headers)."""
    data, starts = SAMPLES[writer]
    start, end = starts[member], starts[member + 1]
    spans = {
        "header": (start, start + 28 if writer == OURS else start + 10),
        "deflate": (start + 28, end - 8),
        "trailer": (end - 8, end),
        "anywhere": (0, len(data)),
    }
    first, last = spans[place]
    position = first + depth % (last - first)
    damaged = bytearray(data)
    damaged[position] ^= 1 << bit
    target = io.BytesIO()
    try:
        decompress_stream(NxGzip(World().lpar(), mode=mode), io.BytesIO(bytes(damaged)), target)
    except DataError:
        assert target.getvalue() in WHOLE[: sum(begin <= position for begin in starts[:3])]
        return
    assert target.getvalue() == WHOLE[3]
    assert place != "trailer"
    assert not (writer == OURS and place == "header")


@pytest.mark.parametrize("writer", [OURS, THEIRS])
def test_a_file_that_ends_early_is_reported(nx: NxGzip, writer: str) -> None:
    data, starts = SAMPLES[writer]
    random = Random(3)
    cuts = {0, 1, 5, 12, 30, *(start + more for start in starts[1:] for more in (-9, -8, -4, -1))}
    cuts |= {start + more for start in starts[1:-1] for more in (1, 5)}
    for length in sorted(cuts | {random.randrange(len(data)) for _ in range(40)} - set(starts)):
        target = io.BytesIO()
        with pytest.raises(TruncatedData):
            decompress_stream(nx, io.BytesIO(data[:length]), target)
        assert target.getvalue() in WHOLE


@pytest.mark.parametrize(
    "data",
    [b"plain text, not gzip at all", b"\x1f\x8b\x07" + bytes(30), b"\x1f\x8b\x08\xe0" + bytes(30), NOISE],
    ids=["text", "method", "flags", "noise"],
)
def test_what_is_no_gzip_is_named(nx: NxGzip, data: bytes) -> None:
    with pytest.raises(CorruptData, match="no gzip member of deflate data at byte 0"):
        decompressed(nx, data)


def test_an_endless_header_is_refused(nx: NxGzip) -> None:
    with pytest.raises(CorruptData, match="gzip header of more than"):
        decompressed(nx, b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (1 << 20))
