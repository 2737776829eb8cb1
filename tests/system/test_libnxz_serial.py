"""libnxz's three serial tests (test/serial-tests) as stories of a whole system, with their masks and outcomes.

On the real machine they need POWER10, a management console and root; here they are real cores of every role on a
virtual clock.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import IntFlag
from random import Random

import pytest

from lpar.client.selection import Mode
from lpar.client.shared_window import SUSPECT_US
from lpar.client.tasks import Task
from lpar.client.zlib_api import SELECTORS, Status, Stream, ZlibApi
from protocol.codes import CreditType
from protocol.console_messages import ChangeProcessors, ConfigurationApplied, SetEntitlement
from protocol.system import parse_system
from tests.fidelity.rows import fidelity
from tests.processes.cluster import SYSTEM
from tests.system.libnxz import Child, Program, consume_credits
from tests.system.story import booted, settle_and_compare
from tests.system.system import System

SOURCE = Random(7).randbytes(32_000)
PACKED = zlib.compress(SOURCE)
BLOCKED_US = 1_000
"""As long as the tests give a process to end, if it is not blocked."""


class Failed(IntFlag):
    """The exit mask of exhaust_credits.c."""

    NONE = 0
    CREDITS = 1
    DEFLATE_INIT = 2
    DEFLATE = 4
    INFLATE_INIT = 8
    INFLATE = 16
    COMPRESS = 32
    UNCOMPRESS = 64


def exhaust_credits(system: System, selector: Mode, *, prefixed: bool) -> Failed:
    """The test program: use all credits but one, then try everything."""
    program = Program(system, "lp1", SELECTORS[selector])
    assert program.run(program.zlib.compress(Stream(SOURCE), 1)) is Status.Z_OK, "the source of inflate"
    total, used = program.credits()
    consume_credits(system, "lp1", total - used - 1, SELECTORS[selector], SOURCE)
    total, used = program.credits()
    failed = Failed.NONE if used == total - 1 else Failed.CREDITS
    api = program.nx if prefixed else program.zlib
    failed |= deflated(program, api) | inflated(program, api)
    compressed, content = Stream(SOURCE), Stream(PACKED)
    if program.run(api.compress(compressed, 1)) is not Status.Z_OK:
        failed |= Failed.COMPRESS
    if program.run(api.uncompress(content, 1)) is not Status.Z_OK:
        failed |= Failed.UNCOMPRESS
    assert Failed.COMPRESS in failed or zlib.decompress(compressed.next_out) == SOURCE
    assert Failed.UNCOMPRESS in failed or content.next_out == SOURCE
    return failed


def deflated(program: Program, api: ZlibApi) -> Failed:
    stream = Stream(SOURCE)
    if program.run(api.deflate_init(stream, 1)) is not Status.Z_OK:
        return Failed.DEFLATE_INIT
    done = program.run(api.deflate(stream, 1)) is Status.Z_STREAM_END
    ended = program.run(api.end(stream)) is Status.Z_OK
    return Failed.NONE if done and ended and zlib.decompress(stream.next_out) == SOURCE else Failed.DEFLATE


def inflated(program: Program, api: ZlibApi) -> Failed:
    stream = Stream(PACKED)
    if program.run(api.inflate_init(stream, 1)) is not Status.Z_OK:
        return Failed.INFLATE_INIT
    done = program.run(api.inflate(stream, 1)) is Status.Z_STREAM_END
    ended = program.run(api.end(stream)) is Status.Z_OK
    return Failed.NONE if done and ended and stream.next_out == SOURCE else Failed.INFLATE


@fidelity(
    "7 libnxz",
    "With one free credit left, the test of exhausted credits exits with 0, 1, 106 and 34 for zlib's names in modes "
    "AUTO, SW, NX and MIX (bits: 1 credits not as expected; 2 deflateInit, 8 inflateInit, 32 compress, 64 uncompress "
    "failed).",
    source="LNX:test/serial-tests",
)
@pytest.mark.parametrize(("selector", "mask"), [("auto", 0), ("software", 1), ("nx", 106), ("mix", 34)])
def test_exhausted_credits_by_zlibs_names(selector: str, mask: int) -> None:
    system = booted(parse_system(SYSTEM, "test system"), 1)
    assert int(exhaust_credits(system, Mode(selector), prefixed=False)) == mask
    settle_and_compare(system)


@fidelity(
    "7 libnxz",
    "With one free credit left, the test of exhausted credits exits with 106, 1, 106 and 106 for the nx_ names in "
    "modes AUTO, SW, NX and MIX.",
    source="LNX:test/serial-tests",
)
@pytest.mark.parametrize(("selector", "mask"), [("auto", 106), ("software", 1), ("nx", 106), ("mix", 106)])
def test_exhausted_credits_by_nx_names(selector: str, mask: int) -> None:
    system = booted(parse_system(SYSTEM, "test system"), 2)
    assert int(exhaust_credits(system, Mode(selector), prefixed=True)) == mask
    settle_and_compare(system)


def dedicated_core_removed(system: System) -> None:
    applied = system.console().ask(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=10_000))
    assert isinstance(applied, ConfigurationApplied)


def entitlement_lowered(system: System) -> None:
    """By 0.15 units, as credit_utils.c does: three credits."""
    applied = system.console().ask(SetEntitlement(lpar="lp3", hundredths=35, wait_ms=10_000))
    assert isinstance(applied, ConfigurationApplied)


def still_blocked(system: System, running: list[tuple[Child, Task[Status]]]) -> bool:
    """Whether nobody has ended, now and for longer than the tests wait."""
    system.pass_time(2 * SUSPECT_US + BLOCKED_US)
    return not any(child.has_ended(task) for child, task in running)


@fidelity(
    "7 libnxz",
    "All credits but one are used by processes, then a core goes: the newest (used - total) of them have suspended "
    "windows and stay blocked; after as many of the oldest and one more have ended, all of them get windows and "
    "finish.",
    source="LNX:test/serial-tests",
)
@pytest.mark.parametrize(
    ("lpar", "lose", "total"), [("lp1", dedicated_core_removed, 20), ("lp3", entitlement_lowered, 7)]
)
def test_suspended_windows(lpar: str, lose: Callable[[System], None], total: int) -> None:
    system = booted(parse_system(SYSTEM, "test system"), 3)
    watcher = Program(system, lpar, SELECTORS[Mode.NX])
    before, used = watcher.credits()
    assert used == 0
    children = consume_credits(system, lpar, before - 1, SELECTORS[Mode.AUTO], SOURCE)
    assert watcher.credits() == (before, before - 1)
    lose(system)
    assert watcher.credits() == (total, before - 1)
    oversubscribed = before - 1 - total
    suspended = children[-oversubscribed:]
    works = [child.stream.work for child in children]
    assert closed_windows(system, lpar) == oversubscribed
    running = [(child, child.go_on()) for child in suspended]
    assert still_blocked(system, running)
    for child in children[: oversubscribed + 1]:
        assert child.finish(child.go_on()) == [Status.Z_STREAM_END]
        child.exit()
    for child, task in running:
        assert child.finish(task) == [Status.Z_STREAM_END]
        assert zlib.decompress(child.stream.next_out) == SOURCE
    reopenings = [work.ledger.reopenings for work in works if work is not None]
    assert reopenings == [0] * total + [1] * oversubscribed
    settle_and_compare(system)
    assert closed_windows(system, lpar) == 0


@fidelity(
    "7 libnxz",
    "Two threads that share a suspended window stay blocked, and both finish on one new window once a credit is free.",
    source="LNX:test/serial-tests",
)
def test_a_suspended_window_of_two_threads() -> None:
    system = booted(parse_system(SYSTEM, "test system"), 4)
    watcher = Program(system, "lp1", SELECTORS[Mode.NX])
    total, _used = watcher.credits()
    children = consume_credits(system, "lp1", total - 3, SELECTORS[Mode.AUTO], SOURCE)
    shared = Child(system, "lp1", SELECTORS[Mode.AUTO], SOURCE)
    second = Stream(SOURCE)
    assert shared.run(shared.zlib.deflate_init(second, 2)) is Status.Z_OK
    assert watcher.credits() == (total, total - 2), "one window for both threads"
    dedicated_core_removed(system)
    total, used = watcher.credits()
    oversubscribed = used - total
    assert oversubscribed == 18
    tasks = [shared.start(shared.zlib.deflate(stream, thread)) for thread, stream in ((1, shared.stream), (2, second))]
    assert still_blocked(system, [(shared, task) for task in tasks])
    for child in reversed(children[-oversubscribed - 1 :]):
        child.exit()
    assert shared.finish(*tasks) == [Status.Z_STREAM_END] * 2
    assert zlib.decompress(shared.stream.next_out) == zlib.decompress(second.next_out) == SOURCE
    (window,) = shared.windows._saved.values()
    assert (window.generation, window.users) == (1, 2)
    settle_and_compare(system)


def closed_windows(system: System, lpar: str) -> int:
    """How many windows of a partition wait for their credit."""
    pool = system.kernel(lpar).kernel.driver.pools[CreditType.DEFAULT]
    return len(pool) - pool.active
