"""Who dies, hangs, is cut off or comes back, and what that costs: exact on the virtual clock. Source: design.md."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console as Terminal

from lpar.client import KernelFailure, NxGzip
from protocol.clock import SECOND_US
from protocol.codes import HYPERVISOR_CHOOSES, CompletionCode, CreditType
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    ConsoleFailure,
    MigratePartition,
    PoolStatus,
    QuerySystem,
    SystemStatus,
)
from protocol.effects import Send
from protocol.hcall_messages import HAllocateVasWindow
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.system import SystemSettings
from protocol.wire import Envelope
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.system.deaths import (
    DATA,
    LPAR_LEASE_US,
    REQUEST,
    ROUND_TRIP_US,
    SETTINGS,
    facts,
    in_use,
    session_of,
    up,
    work_us,
)
from tests.system.story import settle_and_compare
from tests.system.system import System
from vasbus.cluster_commands import credit_table
from vasbus.survey import KernelCounters, Survey
from vasbus.top.model import Model
from vasbus.top.view import frame

# A partition.


@failure(
    "lpar",
    "killed",
    seen="Others cannot use its credits yet.",
    lasts="Its lease of 10.1 s, and the closing of its windows.",
    kept="Everybody else's windows and credits.",
)
@pytest.mark.parametrize("windows", [1, 40])
def test_a_dead_partitions_credits_are_back_exactly_with_its_lease(windows: int, figure: Figure) -> None:
    system = up(1)
    lpar = system.client("lp1")
    for _ in range(windows):
        lpar.open_window()
    system.kill("lp1")
    system.pass_time(ROUND_TRIP_US)
    end_us = session_of(system, "lp1").heard_us + LPAR_LEASE_US
    system.pass_time(end_us - system.now_us - 1)
    assert in_use(system) == windows, "not before"
    system.run_until(lambda: in_use(system) == 0)
    figure(f"lease to the last of {windows} credits", (system.now_us - end_us) / 1000, "ms")
    assert end_us <= system.now_us <= end_us + work_us(windows), "and not after"


@failure(
    "lpar",
    "killed, as its clients see it",
    seen="Pastes go on until its lease is over; opens and files end in TimeoutError. After the lease the first request "
    "of an `NxGzip` waits its `timeout`, then software takes over; ENODEV comes when the partition is back.",
    lasts="Each call its own timeout (`Lpar` 30 s, a request of `NxGzip` 10 s, with `on_suspend=reopen` 60 s).",
    kept="All data; with `on_suspend=reopen` the accelerator is used again when the partition is back.",
)
@pytest.mark.parametrize(("mode", "waits_s"), [({}, 10), ({"on_suspend": "reopen"}, 60)], ids=["software", "reopen"])
def test_clients_of_a_killed_partition_go_on_and_learn_of_it_by_their_timeouts(
    mode: dict[str, Any], waits_s: int, figure: Figure
) -> None:
    system = up(3)
    lpar = system.client("lp1", timeout=20)
    window = lpar.open_window()
    window.map()
    gzip = NxGzip(lpar, small_bytes=0, **mode)
    gzip.compress(DATA)
    system.kill("lp1")
    end_us = session_of(system, "lp1").heard_us + LPAR_LEASE_US

    def seconds(work: Callable[[], object]) -> float:
        began_us = system.now_us
        work()
        return (system.now_us - began_us) / SECOND_US

    def no_answer() -> None:
        with pytest.raises(TimeoutError):
            lpar.open_window()

    while system.now_us < end_us - 2 * SECOND_US:
        assert seconds(lambda: window.run(REQUEST)) < 0.1, "pastes need no kernel"
        system.pass_time(SECOND_US)
    assert seconds(no_answer) == pytest.approx(20, abs=0.1)
    assert in_use(system) == 0
    first_s = seconds(lambda: gzip.compress(DATA))
    figure("first request after the lease: software takes over", first_s, "s")
    assert first_s == pytest.approx(waits_s, abs=0.5)
    assert seconds(lambda: gzip.compress(DATA)) < 0.1, "software at once from then on"
    system.start_lpar("lp1")
    system.run_until(lambda: system.kernel("lp1").kernel.booted)
    with pytest.raises(KernelFailure) as dead:
        window.run(REQUEST)
    assert dead.value.errno == errno.ENODEV
    before = gzip.statistics().compress.nx_bytes
    for _ in range(10):
        assert zlib.decompress(gzip.compress(DATA), wbits=31) == DATA
        system.pass_time(SECOND_US)
    assert (gzip.statistics().compress.nx_bytes > before) is bool(mode)


def test_a_restarted_partition_is_a_new_epoch_and_the_old_ones_late_messages_are_refused_by_number() -> None:
    system = up(2)
    old = session_of(system, "lp1")
    system.kill("lp1")
    system.start_lpar("lp1")
    system.run_until(lambda: session_of(system, "lp1").epoch > old.epoch and system.kernel("lp1").kernel.booted)
    peer, before = session_of(system, "lp1").peer, facts(system)
    assert peer is not None
    domain = (HYPERVISOR_CHOOSES, 0, 0, 0, 0, 0)
    late = HAllocateVasWindow(window_type=int(CreditType.DEFAULT), credits=1, domain=domain)
    system.hypervisor.receive("hcall", peer, Envelope(late, epoch=old.epoch, number=99), system.now_us)
    (wish,) = system.hypervisor.effects.take().transmissions
    assert isinstance(wish, Send)
    assert isinstance(wish.envelope.body, Refused)
    assert wish.envelope.body.code is RefusalCode.EPOCH
    assert facts(system) == before


@failure(
    "lpar",
    "paused or cut off, and back within its lease",
    seen="System calls wait; pastes go on.",
    lasts="As long as it is away, up to 10 s.",
    kept="Everything: session, generation, windows, descriptors.",
)
@pytest.mark.parametrize("away", ["stop", "cut"])
@pytest.mark.parametrize("seconds", [1, 3, 8])
def test_a_partition_back_within_its_lease_has_lost_nothing(away: str, seconds: int) -> None:
    system = up(3)
    lpar = system.client("lp1")
    windows = [lpar.open_window() for _ in range(5)]
    for window in windows:
        window.map()
    before = facts(system)
    getattr(system, away)("lp1")
    assert windows[0].run(REQUEST).code is CompletionCode.OK, "pastes need no kernel"
    system.pass_time(seconds * SECOND_US)
    system.back("lp1")
    system.pass_time(20 * SECOND_US)
    assert facts(system) == before
    assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)
    lpar.open_window().close()
    settle_and_compare(system)


@failure(
    "lpar",
    "paused or cut off for longer than its lease",
    seen="It restarts when it is back: descriptors answer ENODEV until the process connects again.",
    lasts="Until it is back; `reconnect()` and `on_suspend=reopen` go on at once.",
    kept="The credits, which others may have had meanwhile; data in software.",
)
@pytest.mark.parametrize("away", ["stop", "cut"])
def test_a_partition_back_later_is_told_that_it_is_dead_and_its_clients_connect_anew(away: str) -> None:
    system = up(4)
    lpar = system.client("lp1")
    window = lpar.open_window()
    window.map()
    epoch, kernel_epoch = lpar.epoch, session_of(system, "lp1").epoch
    getattr(system, away)("lp1")
    system.pass_time(LPAR_LEASE_US + 2 * SECOND_US)
    assert in_use(system) == 0
    assert system.contexts() == {}
    system.back("lp1")
    system.run_until(lambda: "lp1" in system.hypervisor.hcall.sessions and system.kernel("lp1").kernel.booted)
    assert session_of(system, "lp1").epoch > kernel_epoch
    for call in (lambda: window.run(REQUEST), lambda: lpar.open_window()):
        with pytest.raises(KernelFailure) as dead:
            call()
        assert dead.value.errno == errno.ENODEV
    assert not lpar.is_alive
    lpar.reconnect()
    assert lpar.epoch > epoch
    assert lpar.open_window().run(REQUEST).code is CompletionCode.OK
    settle_and_compare(system)


def test_a_client_that_asked_for_it_reopens_after_its_partition_was_restarted() -> None:
    system = up(5)
    lpar = system.client("lp1")
    gzip = NxGzip(lpar, mode="nx", on_suspend="reopen", small_bytes=0)
    assert zlib.decompress(gzip.compress(DATA), wbits=31) == DATA
    system.stop("lp1")
    system.pass_time(LPAR_LEASE_US + 2 * SECOND_US)
    system.back("lp1")
    assert zlib.decompress(gzip.compress(DATA), wbits=31) == DATA
    assert gzip.statistics().reopenings == 1
    assert in_use(system) == 1


# A partition that does not cooperate.


def with_a_bad_citizen() -> SystemSettings:
    bad, *others = SETTINGS.lpar
    return SETTINGS.model_copy(update={"lpar": (bad.model_copy(update={"bad_citizen": True}), *others)})


def pool_of(system: System, lpar: str) -> PoolStatus:
    status = system.console().ask(QuerySystem())
    assert isinstance(status, SystemStatus)
    pools = next(found.pools for found in status.lpars if found.name == lpar)
    return next(pool for pool in pools if pool.credit_type is CreditType.DEFAULT)


def shown(system: System, lpar: str) -> tuple[str, str]:
    """The partition's line in `vasbus status` and in `vasbus top`."""
    status = system.console().ask(QuerySystem())
    assert isinstance(status, SystemStatus)
    model = Model(began_us=0)
    model.ask()
    model.snapshot(status, 0)
    kernels: dict[str, KernelCounters | None] = {found.name: KernelCounters(20, 40, 0, 0) for found in status.lpars}
    lines = []
    for picture in (credit_table(Survey("", "local", status, kernels)), frame(model, 0, 140)):
        terminal = Terminal(width=140, force_terminal=False)
        with terminal.capture() as capture:
            terminal.print(picture)
        lines.append(next(line for line in capture.get().splitlines() if f"{lpar} " in line))
    return lines[0], lines[1]


@failure(
    "lpar",
    "does not give up windows for which it has no credit any more",
    seen="`vasbus status` shows its excess, `vasbus top` as a red number beside the windows in use.",
    lasts="Until it closes them.",
    kept="Its windows work, nothing is revoked; others open windows up to their own targets.",
)
def test_a_partition_that_closes_nothing_takes_nothing_from_others() -> None:
    system = up(13, with_a_bad_citizen())
    bad, good = system.client("lp1"), system.client("lp2")
    windows = [bad.open_window() for _ in range(40)]
    console = system.console()
    for lpar, cores in (("lp1", -1), ("lp2", 1)):
        assert isinstance(console.ask(ChangeProcessors(lpar=lpar, cores=cores, wait_ms=5_000)), ConfigurationApplied)
    pool = pool_of(system, "lp1")
    assert (pool.target, pool.in_use, pool.excess) == (20, 40, 20)
    in_status, in_top = shown(system, "lp1")
    assert in_status.split()[-3:] == ["20", "40", "20"], "target, in use, excess"
    assert "40/20 +20" in in_top
    assert system.kernel("lp1").statistics().closed == 0
    assert len([good.open_window() for _ in range(40)]) == pool_of(system, "lp2").target
    assert pool_of(system, "lp2").excess == 0
    assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)
    with pytest.raises(KernelFailure):
        bad.open_window()
    system.pass_time(60 * SECOND_US)
    assert in_use(system, "lp1") == 40, "nobody revokes them"
    for window in windows[:25]:
        window.close()
    assert pool_of(system, "lp1").excess == 0
    in_status, in_top = shown(system, "lp1")
    assert in_status.split()[-3:] == ["20", "15", "-"]
    assert "15/20" in in_top
    assert "+" not in in_top
    bad.open_window().close()


def test_a_partition_that_closes_nothing_is_not_migrated() -> None:
    system = up(14, with_a_bad_citizen())
    window = system.client("lp1").open_window()
    window.map()
    answer = system.console().ask(MigratePartition(lpar="lp1", hold_ms=0, wait_ms=60_000))
    assert isinstance(answer, ConsoleFailure), answer
    assert window.run(REQUEST).code is CompletionCode.OK
