"""libnxz's two interfaces: zlib's names by the selector, and the nx_ functions, with their return codes and errnos."""

from __future__ import annotations

import errno
import inspect
import zlib
from collections.abc import Callable

import pytest

from lpar.client import Lpar, NxGzip
from lpar.client.libnxz import Libnxz, Status, Stream
from lpar.client.shared_window import SUSPECT_US
from lpar.client.zlib_api import SETTINGS, Selector, selector_of
from protocol.codes import KernelReason
from tests.client.kernel import failure
from tests.client.reopen import credits_are
from tests.client.test_compress import NOISE, PART, TEXT, limit_to
from tests.client.test_fallback import opens
from tests.client.world import World
from tests.fidelity.rows import fidelity

PACKED = zlib.compress(TEXT)
MODES = ("auto", "software", "nx", "mix")


@pytest.fixture(autouse=True)
def small_parts(world: World) -> None:
    limit_to(world, PART)


@pytest.fixture
def nx(lpar: Lpar) -> Libnxz:
    return Libnxz(lpar, prefixed=True)


def nx_bytes(stream: Stream) -> int:
    """How much of a stream's input the accelerator did."""
    assert stream.work is not None
    picture = stream.work.ledger.picture()
    return picture.compress.nx_bytes + picture.decompress.nx_bytes


@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("selector", MODES)
def test_data_goes_there_and_back_in_every_mode(lpar: Lpar, selector: str, prefixed: bool) -> None:
    library = Libnxz(lpar, selector, prefixed=prefixed)
    status, packed = library.compress(TEXT)
    assert (status, zlib.decompress(packed)) == (Status.Z_OK, TEXT)
    assert library.uncompress(packed) == (Status.Z_OK, TEXT)


@fidelity(
    "7 libnxz",
    "The selector has four modes: AUTO, software only, NX only, and MIX, which compresses on the accelerator and "
    "decompresses in software.",
    source="LNX:lib/nx_zlib.c",
)
@pytest.mark.parametrize(
    ("selector", "deflates", "inflates"),
    [("auto", True, True), ("software", False, False), ("nx", True, True), ("mix", True, False)],
)
def test_the_selector_says_who_does_each_direction(lpar: Lpar, selector: str, deflates: bool, inflates: bool) -> None:
    library, stream, back = Libnxz(lpar, selector), Stream(TEXT), Stream(PACKED)
    assert library.deflate_init(stream) is library.inflate_init(back) is Status.Z_OK
    assert library.deflate(stream) is library.inflate(back) is Status.Z_STREAM_END
    assert zlib.decompress(stream.next_out) == back.next_out == TEXT
    assert (stream.software, back.software) == (not deflates, not inflates)
    for one, uses_nx in ((stream, deflates), (back, inflates)):
        assert (one.work is not None) is uses_nx
        assert not uses_nx or nx_bytes(one) == len(one.next_in)
    assert library.deflate_end(stream) is library.inflate_end(back) is Status.Z_OK


@fidelity(
    "7 libnxz",
    "Without a window the init of a stream returns Z_STREAM_ERROR, with the errno of what refused it.",
    source="LNX:lib/nx_deflate.c",
)
@fidelity(
    "7 libnxz",
    "In mode NX, and from every nx_ function whatever the mode, the error goes to the caller.",
    source="LNX:lib/nx_zlib.c",
)
@pytest.mark.parametrize(("selector", "prefixed"), [("nx", False), *((selector, True) for selector in MODES)])
def test_without_a_window_an_init_is_a_stream_error(world: World, lpar: Lpar, selector: str, prefixed: bool) -> None:
    library = Libnxz(lpar, selector, prefixed=prefixed)
    credits_are(world, 40, 39)
    for init in (library.deflate_init, library.inflate_init):
        stream = Stream(TEXT)
        assert init(stream) is Status.Z_STREAM_ERROR
        assert stream.error_number == errno.EAGAIN
        assert library.deflate(stream) is library.deflate_end(stream) is Status.Z_STREAM_ERROR
    assert library.compress(TEXT) == library.uncompress(PACKED) == (Status.Z_STREAM_ERROR, b"")
    assert opens(world) == 0


@fidelity(
    "7 libnxz",
    "In mode AUTO zlib's functions go on in software without a word where the init met Z_STREAM_ERROR with EAGAIN; a "
    "reset tries the accelerator again.",
    source="LNX:lib/nx_zlib.c",
)
def test_in_mode_auto_short_credits_mean_software_until_a_reset(world: World, lpar: Lpar) -> None:
    library = Libnxz(lpar, "auto")
    credits_are(world, 40, 39)
    stream, back = Stream(TEXT), Stream(PACKED)
    assert library.deflate_init(stream) is library.inflate_init(back) is Status.Z_OK
    credits_are(world, 40, 10)
    assert library.deflate(stream) is library.inflate(back) is Status.Z_STREAM_END
    assert stream.software
    assert back.software
    assert opens(world) == 0, "a stream stays where it began"
    assert library.deflate_reset(stream) is library.inflate_reset(back) is Status.Z_OK
    assert library.deflate(stream) is library.inflate(back) is Status.Z_STREAM_END
    assert not stream.software
    assert not back.software
    assert nx_bytes(stream) == len(TEXT)
    assert opens(world) == 1


@fidelity(
    "7 libnxz",
    "An errno other than EAGAIN goes to the caller of zlib's functions in mode AUTO too.",
    source="LNX:lib/nx_zlib.c",
)
def test_another_errno_than_eagain_is_the_callers_in_mode_auto_too(world: World, lpar: Lpar) -> None:
    world.kernel.failures.append(("tx_win_open", failure(KernelReason.HCALL_FAILED)))
    library, stream = Libnxz(lpar, "auto"), Stream(TEXT)
    assert library.deflate_init(stream) is Status.Z_STREAM_ERROR
    assert stream.error_number == errno.EIO
    friendly = NxGzip(lpar, "auto", "reopen")
    world.kernel.failures.append(("tx_win_open", failure(KernelReason.HCALL_FAILED)))
    friendly.compress(TEXT)
    assert friendly.statistics().compress.nx_bytes == 0, "NxGzip goes on in software for whatever reason"


@fidelity(
    "7 libnxz",
    "A stream that has begun on the accelerator never goes on in software: an EAGAIN of its job is Z_STREAM_ERROR from "
    "deflate, Z_DATA_ERROR from inflate.",
    source="LNX:lib/nx_deflate.c",
)
@pytest.mark.parametrize("selector", ["auto", "nx"])
def test_a_job_that_was_not_done_is_an_error_of_its_stream(world: World, lpar: Lpar, selector: str) -> None:
    library, stream, back = Libnxz(lpar, selector), Stream(TEXT), Stream(PACKED)
    assert library.deflate_init(stream) is library.inflate_init(back) is Status.Z_OK
    world.kernel.suspend()
    assert library.deflate(stream) is Status.Z_STREAM_ERROR
    assert library.inflate(back) is Status.Z_DATA_ERROR
    assert stream.error_number == back.error_number == errno.EAGAIN
    assert library.deflate_end(stream) is library.inflate_end(back) is Status.Z_OK


def test_a_suspended_stream_blocks_and_then_ends_well(world: World, nx: Libnxz) -> None:
    stream = Stream(TEXT)
    assert nx.deflate_init(stream) is Status.Z_OK
    world.kernel.suspend()
    world.later(500_000, lambda: setattr(world.kernel, "total", 40))
    began_us = world.now_us
    assert nx.deflate(stream) is Status.Z_STREAM_END
    assert 500_000 < world.now_us - began_us < 500_000 + SUSPECT_US + 200_000
    assert zlib.decompress(stream.next_out) == TEXT


def test_ends_keep_the_window_for_the_next_stream(world: World, nx: Libnxz) -> None:
    for _ in range(5):
        assert nx.compress(TEXT)[0] is Status.Z_OK
    assert opens(world) == 1
    assert len(world.kernel.windows) == 1
    assert next(iter(world.core.windows._saved.values())).users == 0


def test_a_reset_after_a_small_stream_keeps_the_window_it_has(world: World, lpar: Lpar) -> None:
    library, stream = Libnxz(lpar, "auto"), Stream(TEXT[:1024])
    assert library.deflate_init(stream) is Status.Z_OK
    assert library.deflate(stream) is Status.Z_STREAM_END
    assert stream.software
    stream.next_in = TEXT
    assert library.deflate_reset(stream) is Status.Z_OK
    assert library.deflate(stream) is Status.Z_STREAM_END
    assert nx_bytes(stream) == len(TEXT)
    library.deflate_end(stream)
    assert next(iter(world.core.windows._saved.values())).users == 0


def test_a_slow_accelerator_keeps_an_automatic_stream_in_software(world: World, lpar: Lpar) -> None:
    world.core.windows.compress_delay.average_ticks = 100_000_001
    library, stream = Libnxz(lpar, "auto"), Stream(TEXT)
    assert library.deflate_init(stream) is Status.Z_OK
    assert library.deflate(stream) is Status.Z_STREAM_END
    assert stream.software
    assert world.core.windows.compress_delay.average_ticks == 100_000_001 - 100_000_001 // 4


def test_room_that_is_too_small_and_damage_have_zlibs_codes(nx: Libnxz) -> None:
    def outcome(begin: Callable[[Stream], Status], work: Callable[[Stream], Status], stream: Stream) -> Status:
        assert begin(stream) is Status.Z_OK
        status = work(stream)
        assert stream.next_out == b""
        assert nx.inflate_end(stream) is Status.Z_OK
        return status

    damaged = bytearray(PACKED)
    damaged[-1] ^= 1
    assert outcome(nx.deflate_init, nx.deflate, Stream(NOISE, avail_out=1000)) is Status.Z_BUF_ERROR
    assert outcome(nx.inflate_init, nx.inflate, Stream(PACKED, avail_out=1000)) is Status.Z_BUF_ERROR
    assert outcome(nx.inflate_init, nx.inflate, Stream(PACKED[:-200])) is Status.Z_BUF_ERROR
    assert outcome(nx.inflate_init, nx.inflate, Stream(bytes(damaged))) is Status.Z_DATA_ERROR


def test_a_stream_that_was_not_begun_is_a_stream_error(nx: Libnxz) -> None:
    for call in (nx.deflate, nx.inflate, nx.deflate_end, nx.inflate_end, nx.deflate_reset, nx.inflate_reset):
        assert call(Stream(TEXT)) is Status.Z_STREAM_ERROR


@fidelity(
    "7 libnxz",
    "NX_GZIP_TYPE_SELECTOR is 0 (auto), 1 (software), 2 (NX) or 3 (mix); NX_GZIP_COMP_MODE and NX_GZIP_DEC_MODE count "
    "only without it.",
    source="LNX:lib/nx_zlib.c",
)
def test_the_environment_selects() -> None:
    names = ("NX_GZIP_TYPE_SELECTOR", "NX_GZIP_COMP_MODE", "NX_GZIP_DEC_MODE")

    def selected(*values: str | None) -> tuple[str, str]:
        found = selector_of({name: value for name, value in zip(names, values, strict=True) if value is not None})
        return found.compress.value, found.decompress.value

    assert selected(None, None, None) == selected("0", "1", "1") == ("auto", "auto")
    assert selected("1", "2", None) == selected(None, "1", "1") == ("software", "software")
    assert selected("2", None, "1") == ("nx", "nx")
    assert selected("3", None, None) == selected(None, "2", "1") == ("nx", "software")
    assert selected(None, None, "2") == ("auto", "nx")


@pytest.mark.parametrize(
    ("name", "value"), [("NX_GZIP_TYPE_SELECTOR", "4"), ("NX_GZIP_TYPE_SELECTOR", ""), ("NX_GZIP_COMP_MODE", "3")]
)
def test_a_value_that_libnxz_does_not_know_is_told(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: expected 0 \(auto\), 1 \(software\), 2 \(nx\).* came '{value}'"):
        selector_of({name: value})


def test_an_environment_counts_where_no_selector_is_given(lpar: Lpar) -> None:
    environment = {"NX_GZIP_TYPE_SELECTOR": "1"}
    assert Libnxz(lpar, environment=environment).api.selector == Selector(*["software"] * 2)  # type: ignore[arg-type]
    assert Libnxz(lpar, "nx", environment=environment).api.selector == Selector(*["nx"] * 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fast"):
        Libnxz(lpar, "fast")


@fidelity(
    "7 libnxz",
    "libnxz never asks for a QoS credit, asks for no certain chip, and watches only the default credits.",
    source="LNX:lib/gzip_vas.c",
)
def test_only_default_credits_are_asked_for_and_watched(world: World, nx: Libnxz) -> None:
    assert nx.compress(TEXT)[0] is Status.Z_OK
    assert [window.flags for window in world.kernel.windows] == [0]
    asked = [body for body in world.kernel.executed if body.type == "tx_win_open"]
    assert [body.vas_id for body in asked] == [-1]  # type: ignore[attr-defined]
    read = {body.path for body in world.kernel.executed if body.type == "read_file"}  # type: ignore[attr-defined]
    assert any("default_capabilities" in path for path in read)
    assert not any("qos_capabilities" in path for path in read)


def test_the_limits_are_those_of_libnxz_here_and_in_nx_gzip(lpar: Lpar) -> None:
    assert NxGzip(lpar, on_suspend="reopen")._work.accelerator.settings == SETTINGS


def test_every_call_says_what_it_does() -> None:
    for name, member in vars(Libnxz).items():
        if not name.startswith("_"):
            assert inspect.getdoc(member), name
