"""An NX unit dies, hangs, is slow or cut off, and comes back: what its users see. Source: design.md."""

from __future__ import annotations

import zlib

import pytest

from lpar.client import NxGzip
from protocol.clock import SECOND_US
from protocol.codes import CompletionCode, FallbackReason, WindowStatus
from protocol.console_messages import (
    QueryWindows,
    Windows,
)
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.system.deaths import DATA, REQUEST, TIMES, facts, in_use, session_of, unit_usable, up
from tests.system.standstill import StandstillSystem
from tests.system.story import settle_and_compare
from tests.system.system import JOB_US


def lose(system: StandstillSystem, how: str, unit: str) -> None:
    system.kill(unit) if how == "killed" else getattr(system, how)(unit)


def find(system: StandstillSystem, how: str, unit: str) -> None:
    system.revive(unit) if how == "killed" else system.back(unit)
    system.run_until(unit_usable(system, unit))


@failure(
    "nxunit",
    "killed or hung",
    seen="Requests end by their deadline and software takes over; an open under way there gets a window elsewhere.",
    lasts="Until it is back; each request at most its timeout, each open 3 s until the unit is suspected.",
    kept="Every window: the same descriptors work again, with the same tokens.",
)
@pytest.mark.parametrize("how", ["killed", "stop"])
@pytest.mark.parametrize("away_s", [8, 45])
def test_a_lost_units_work_goes_on_in_software_and_its_windows_come_back(how: str, away_s: int, figure: Figure) -> None:
    system = up(6)
    lpar = system.client("lp1")
    window = lpar.open_window()
    assert window.run(REQUEST).code is CompletionCode.OK
    gzip = NxGzip(lpar, timeout=1.0, small_bytes=0)
    assert zlib.decompress(gzip.compress(DATA), wbits=31) == DATA
    assert set(system.contexts().values()) == {"nx0"}
    lose(system, how, "nx0")
    began_us = system.now_us
    assert zlib.decompress(gzip.compress(DATA), wbits=31) == DATA
    assert system.now_us - began_us <= 1_500_000, "a request ends by its deadline"
    assert gzip.statistics().compress.fallback[FallbackReason.TIMEOUT] > 0
    fresh = lpar.open_window()
    took_us = system.now_us - began_us
    figure("unit lost to a window at another one", took_us / SECOND_US, "s")
    assert took_us <= (TIMES.suspect_ms + TIMES.beat_ms) * 1000
    assert fresh.run(REQUEST).code is CompletionCode.OK
    system.pass_time(SECOND_US)
    rows = system.console().ask(QueryWindows())
    assert isinstance(rows, Windows)
    shown = [(row.unit, row.status) for row in rows.rows]
    assert shown[:2] == [("nx0", WindowStatus.HARDWARE_FAILURE)] * 2
    assert shown[-1] == ("nx1", WindowStatus.ACTIVE)
    system.pass_time(away_s * SECOND_US)
    find(system, how, "nx0")
    system.run_until(lambda: in_use(system) == 3 and len(system.contexts()) == 3, limit_us=SECOND_US)
    ids = set(system.hypervisor.ledger.windows)
    assert set(system.contexts()) == ids
    assert window.run(REQUEST).code is CompletionCode.OK
    assert set(system.hypervisor.ledger.windows) == ids
    settle_and_compare(system)


@failure(
    "nxunit",
    "cut off from the hypervisor",
    seen="Pastes go on until its fence, then software takes over; new windows are placed elsewhere.",
    lasts="Until the link is back; within 30 s nobody notices.",
    kept="Every window.",
)
@pytest.mark.parametrize(("away_s", "fenced"), [(25, False), (40, True)])
def test_a_unit_cut_off_from_the_hypervisor_takes_pastes_until_its_fence(away_s: int, fenced: bool) -> None:
    system = up(12)
    lpar = system.client("lp1")
    window = lpar.open_window()
    assert window.run(REQUEST).code is CompletionCode.OK
    before = facts(system)
    system.cut("nx0")
    system.pass_time(away_s * SECOND_US)
    fresh = lpar.open_window()
    assert set(system.contexts().values()) == ({"nx1"} if fenced else {"nx0", "nx1"})
    gzip = NxGzip(lpar, timeout=1.0, small_bytes=0)
    assert zlib.decompress(gzip.compress(DATA), wbits=31) == DATA
    if not fenced:
        assert window.run(REQUEST).code is CompletionCode.OK
    gzip.close()
    fresh.close()
    find(system, "cut", "nx0")
    assert window.run(REQUEST).code is CompletionCode.OK
    after = facts(system)
    assert after["windows"] == before["windows"]
    assert (after["epochs"] == before["epochs"]) is not fenced
    settle_and_compare(system)


def test_a_slow_unit_costs_a_request_its_deadline_and_no_more() -> None:
    system = up(7)
    gzip = NxGzip(system.client("lp1"), timeout=1.0, small_bytes=0)
    gzip.compress(DATA)
    system.job_us = 3 * SECOND_US
    began_us = system.now_us
    assert zlib.decompress(gzip.compress(DATA), wbits=31) == DATA
    assert system.now_us - began_us <= 1_500_000
    assert gzip.statistics().compress.fallback[FallbackReason.TIMEOUT] > 0
    system.job_us = JOB_US
    system.pass_time(60 * SECOND_US)
    nx_bytes = gzip.statistics().compress.nx_bytes
    gzip.compress(DATA)
    assert gzip.statistics().compress.nx_bytes > nx_bytes, "it is used again"


@failure(
    "lpar",
    "killed while an NX unit of its windows is cut off",
    seen="The credits of its windows there count as in use.",
    lasts="The unit's fence of 30.1 s.",
    kept="A credit is never used again while a unit may accept its pastes.",
)
def test_a_credit_behind_an_unreachable_unit_is_free_when_that_unit_takes_no_paste(figure: Figure) -> None:
    system = up(8)
    window = system.client("lp1").open_window()
    assert window.run(REQUEST).code is CompletionCode.OK
    system.cut("nx0")
    cut_us = system.now_us
    system.kill("lp1")
    unit = system.hosts["nx0"].core
    quiet_us = session_of(system, "nx0").heard_us + (TIMES.fence_ms + TIMES.drift_margin_ms) * 1000
    accepted = 0
    while in_use(system):
        accepted += bool(unit.contexts) and window.run(REQUEST).code is CompletionCode.OK
        system.pass_time(100_000)
    assert accepted > 100, "its client lives and pastes all the time"
    assert not unit.contexts
    figure("unit cut off to the credit free", (system.now_us - cut_us) / SECOND_US, "s")
    assert quiet_us <= system.now_us <= quiet_us + 200_000
