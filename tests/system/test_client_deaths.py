"""What becomes of a client's windows when it, its link or its partition is away: exact on the virtual clock."""

from __future__ import annotations

import errno

import pytest

from lpar.client import KernelFailure
from protocol.clock import SECOND_US
from protocol.codes import CompletionCode
from protocol.link import DEVICE
from protocol.socket import HEARTBEAT_TIMEOUT_MS
from tests.conftest import Figure
from tests.failures.rows import failure
from tests.system.deaths import CLIENT_LEASE_US, REQUEST, ROUND_TRIP_US, TIMES, facts, host_of, in_use, up
from tests.system.story import settle_and_compare


@failure(
    "client",
    "killed",
    seen="Its windows count as in use.",
    lasts="Up to one probe, then its lease of 5.1 s.",
    kept="Everybody else's windows.",
)
def test_a_killed_clients_windows_are_closed_with_its_lease_and_not_before(figure: Figure) -> None:
    system = up(9)
    lpar = system.client("lp1")
    for _ in range(7):
        lpar.open_window()
    listener = system.kernel("lp1").listener
    session = listener.sessions[host_of(lpar)]
    began_us = system.now_us
    lpar.close()
    system.run_until(lambda: session.gone_us is not None)
    assert session.gone_us is not None
    end_us = session.gone_us + CLIENT_LEASE_US
    assert session.gone_us - began_us <= TIMES.beat_ms * 1000 + ROUND_TRIP_US
    system.pass_time(end_us - system.now_us - 1)
    assert in_use(system) == 7, "not before"
    system.run_until(lambda: in_use(system) == 0)
    figure("lease to the last of 7 credits", (system.now_us - end_us) / 1000, "ms")
    assert system.now_us <= end_us + 7 * 2 * ROUND_TRIP_US, "each close asks the hypervisor, and that the unit"


@failure(
    "client",
    "computing or asleep for minutes",
    seen="Nothing.",
    lasts="As long as it likes.",
    kept="Its windows: its life is its connection, which needs no attention of the program.",
)
def test_a_client_that_computes_for_minutes_keeps_its_windows() -> None:
    system = up(10)
    lpar = system.client("lp1")
    windows = [lpar.open_window() for _ in range(3)]
    before = facts(system)
    system.compute(host_of(lpar))
    system.pass_time(600 * SECOND_US)
    system.goes_on(host_of(lpar))
    assert facts(system) == before
    assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)


@failure(
    "client",
    "makes no call while its partition, itself or its link pauses",
    seen="Nothing.",
    lasts="Up to the client's lease of 5 s where it or its link pauses, up to the partition's of 10 s where that does.",
    kept="Its session and its windows: ZeroMQ makes the connection again, and the partition looks for it there.",
)
@pytest.mark.parametrize("seconds", [1.4, 1.6, 2, 4, 4.9])
@pytest.mark.parametrize(("who", "away"), [("lp1", "stop"), ("client", "stop"), ("client", "cut")])
def test_a_client_that_makes_no_call_keeps_its_windows_through_a_pause(who: str, away: str, seconds: float) -> None:
    system = up(12)
    lpar = system.client("lp1")
    windows = [lpar.open_window() for _ in range(3)]
    before, epoch, client = facts(system), lpar.epoch, host_of(lpar)
    system.compute(client)
    paused = client if who == "client" else who
    system.stop(paused) if away == "stop" else system.cut(paused, DEVICE.name)
    system.pass_time(round(seconds * SECOND_US))
    system.back(paused)
    system.pass_time(60 * SECOND_US)
    assert facts(system) == before
    session = system.kernel("lp1").listener.sessions[client]
    assert session.gone_us is None, "it counts as connected again"
    system.goes_on(client)
    assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)
    lpar.open_window().close()
    assert lpar.epoch == epoch
    settle_and_compare(system)


def test_a_client_whose_link_comes_back_too_late_is_told_that_its_own_session_is_over() -> None:
    system = up(12)
    lpar = system.client("lp1")
    window = lpar.open_window()
    system.compute(host_of(lpar))
    system.cut(host_of(lpar), DEVICE.name)
    system.pass_time(HEARTBEAT_TIMEOUT_MS * 1000 + CLIENT_LEASE_US + 2 * SECOND_US)
    assert in_use(system) == 0
    system.back(host_of(lpar))
    system.goes_on(host_of(lpar))
    with pytest.raises(KernelFailure, match="session") as dead:
        window.map()
    assert dead.value.errno == errno.ENODEV
    assert "out of its reach" in str(dead.value), "the partition was not restarted"


@pytest.mark.parametrize(("seconds", "kept"), [(5, True), (9, False)])
def test_a_stopped_client_keeps_its_windows_for_its_lease(seconds: int, kept: bool) -> None:
    system = up(11)
    lpar = system.client("lp1")
    window = lpar.open_window()
    system.stop(host_of(lpar))
    system.pass_time(seconds * SECOND_US)
    assert in_use(system) == (1 if kept else 0)
    system.back(host_of(lpar))
    if kept:
        assert window.run(REQUEST).code is CompletionCode.OK
    else:
        with pytest.raises(KernelFailure) as dead:
            window.run(REQUEST)
        assert dead.value.errno == errno.ENODEV
    settle_and_compare(system)
