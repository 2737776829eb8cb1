"""All roles together, under a network that loses, repeats and delays, and processes that die at any moment."""

from __future__ import annotations

import zlib
from dataclasses import replace
from random import Random

import pytest

from lpar.client import ClientError, Lpar, NxGzip, Request, Window
from protocol.codes import CompletionCode, CreditType, FunctionCode
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    MigratePartition,
    SetEntitlement,
    SetQosCredits,
)
from protocol.dialer import Identity
from protocol.refusals import RefusalCode
from protocol.system import SystemSettings, parse_system
from tests.processes.cluster import SYSTEM
from tests.system.story import booted, settle_and_compare
from tests.system.system import System, Weather

DATA = b"a partition's bytes, over and over " * 300
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
STORM = Weather(loss=0.1, repeat=0.1, late=0.1)
ACTS = (
    "client", "open", "open", "open", "close", "run", "run", "gzip", "cores", "share", "qos", "migrate", "die", "rest",
)  # fmt: skip
"""What may happen, as often as it stands here."""


@pytest.fixture
def settings() -> SystemSettings:
    return parse_system(SYSTEM, "test system")


def test_a_client_compresses_through_the_whole_system(settings: SystemSettings) -> None:
    system = booted(settings, 1)
    lpar = system.client("lp1")
    window = lpar.open_window()
    csb = window.run(REQUEST)
    assert csb.code is CompletionCode.OK
    assert zlib.decompress(csb.target, wbits=-15) == DATA
    settle_and_compare(system)
    window.close()
    settle_and_compare(system)
    assert not system.hypervisor.ledger.windows


def test_a_core_removed_and_returned_leaves_the_same_windows_working(settings: SystemSettings) -> None:
    system = booted(settings, 2)
    lpar = system.client("lp1")
    windows = [lpar.open_window() for _ in range(30)]
    for window in windows:
        window.map()
    console = system.console()
    applied = console.ask(ChangeProcessors(lpar="lp1", cores=-1, wait_ms=10_000))
    assert isinstance(applied, ConfigurationApplied)
    assert len(applied.closed) == 10
    settle_and_compare(system)
    returned = console.ask(ChangeProcessors(lpar="lp1", cores=1, wait_ms=10_000))
    assert isinstance(returned, ConfigurationApplied)
    assert len(returned.reopened) == 10
    assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)
    settle_and_compare(system)


def test_a_dead_client_costs_its_credits_for_one_lease(settings: SystemSettings) -> None:
    system = booted(settings, 3)
    lpar = system.client("lp1")
    for _ in range(5):
        lpar.open_window()
    lpar.close()
    began_us = system.now_us
    system.run_until(lambda: system.hypervisor.ledger.in_use("lp1", CreditType.DEFAULT) == 0)
    times = settings.times
    bound_ms = times.beat_ms + times.client_lease_ms + times.drift_margin_ms
    assert system.now_us - began_us <= bound_ms * 1000 + 50_000


def test_a_dead_partition_costs_its_credits_for_one_lease(settings: SystemSettings) -> None:
    system = booted(settings, 4)
    lpar = system.client("lp1")
    for _ in range(5):
        lpar.open_window()
    system.kill("lp1")
    began_us = system.now_us
    system.run_until(lambda: system.hypervisor.ledger.in_use("lp1", CreditType.DEFAULT) == 0)
    bound_ms = settings.times.lpar_lease_ms + settings.times.drift_margin_ms
    assert system.now_us - began_us <= bound_ms * 1000 + 50_000


def test_a_hypervisor_killed_and_restarted_costs_nobody_a_window(settings: SystemSettings) -> None:
    system = booted(settings, 5)
    lpar = system.client("lp1")
    windows = [lpar.open_window() for _ in range(5)]
    before = set(system.contexts())
    system.kill("hypervisor")
    system.pass_time(500_000)
    assert windows[0].run(REQUEST).code is CompletionCode.OK
    system.start_hypervisor()
    settle_and_compare(system)
    assert set(system.contexts()) == before
    assert lpar.open_window().run(REQUEST).code is CompletionCode.OK


def test_a_restarted_partition_shows_the_entitlement_it_was_given_meanwhile(settings: SystemSettings) -> None:
    system = booted(settings, 7)
    system.console().ask(SetEntitlement(lpar="lp3", hundredths=40, wait_ms=3_000))
    system.kill("lp3")
    system.pass_time(2_000_000)
    system.start_lpar("lp3")
    system.run_until(lambda: system.kernel("lp3").kernel.booted)
    system.pass_time(1_000_000)
    assert "partition_entitled_capacity=40\n" in system.client("lp3").read("/proc/powerpc/lparcfg")


@pytest.mark.parametrize("role", ["lpar", "nxunit", "observer"])
def test_only_clients_reach_a_kernel_and_only_consoles_the_console_link(settings: SystemSettings, role: str) -> None:
    """But observers, who may ask the console link for the state of the system and change nothing."""
    system = booted(settings, 8)
    endpoints = [system.addresses.device["lp1"]]
    if role != "observer":
        endpoints.append(system.addresses.hmc)
    for number, endpoint in enumerate(endpoints):
        intruder = system.dialled(endpoint, Identity(role, f"intruder-{number}", bytes(16), "local", 1, {}))
        system.pass_time(1_000_000)
        assert intruder.ended is not None
        assert intruder.ended.code is RefusalCode.UNKNOWN_NAME


def test_windows_behind_a_restarted_unit_work_again(settings: SystemSettings) -> None:
    system = booted(settings, 6)
    lpar = system.client("lp1")
    window = lpar.open_window()
    assert window.run(REQUEST).code is CompletionCode.OK
    unit = system.hypervisor.ledger.windows[window.window_id].unit
    system.kill(unit)
    system.pass_time(100_000)
    system.start_unit(unit)
    assert window.run(REQUEST).code is CompletionCode.OK
    settle_and_compare(system)


@pytest.mark.parametrize("seed", range(40))
def test_bad_weather_and_deaths_leave_nothing_lost_and_nothing_doubled(settings: SystemSettings, seed: int) -> None:
    weather_and_deaths(settings, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_storms_leave_nothing_lost_and_nothing_doubled(settings: SystemSettings) -> None:
    for seed in range(1000, 2000):
        weather_and_deaths(settings, seed)


def weather_and_deaths(settings: SystemSettings, seed: int) -> None:
    """A life in bad weather; afterwards everything tells the same story and nothing is left."""
    system = booted(settings, seed)
    random = Random(seed)
    system.weather = STORM
    clients: list[tuple[Lpar, list[Window], NxGzip]] = []
    for _ in range(30):
        act(system, random, clients)
    for name in system.servers:
        system.revive(name)
    settle_and_compare(system)
    for lpar, _windows, nx in clients:
        data = random.randbytes(500) * 20
        if lpar.is_alive:
            assert nx.decompress(nx.compress(data)) == data
        lpar.close()
    settle_and_compare(system)
    assert not system.hypervisor.ledger.windows


def act(system: System, random: Random, clients: list[tuple[Lpar, list[Window], NxGzip]]) -> None:
    """One thing that a user, an administrator or fate does."""
    try:
        match random.choice(ACTS):
            case "client":
                lpar = system.client(random.choice(system.settings.lpar).name)
                clients.append(
                    (lpar, [], NxGzip(lpar, small_bytes=0, paging=lambda request: paged_out(random, request)))
                )
            case "open" if clients:
                lpar, windows, _ = random.choice(clients)
                windows += [lpar.open_window(qos=random.random() < 0.3) for _ in range(random.randint(1, 8))]
            case "close" if clients:
                _, windows, _ = random.choice(clients)
                if windows:
                    windows.pop(random.randrange(len(windows))).close()
            case "run" if clients:
                _, windows, _ = random.choice(clients)
                if windows:
                    random.choice(windows).run(paged_out(random, REQUEST), timeout=2.0)
            case "gzip" if clients:
                _, _, nx = random.choice(clients)
                assert nx.decompress(nx.compress(DATA)) == DATA
            case "cores":
                change = ChangeProcessors(
                    lpar=random.choice(("lp1", "lp2")), cores=random.choice((-1, 1)), wait_ms=3_000
                )
                system.console().ask(change)
            case "share":
                system.console().ask(SetEntitlement(lpar="lp3", hundredths=random.randint(5, 60), wait_ms=3_000))
            case "qos":
                name = random.choice(system.settings.lpar).name
                system.console().ask(SetQosCredits(lpar=name, credits=random.randint(0, 8), wait_ms=3_000))
            case "migrate":
                name = random.choice(system.settings.lpar).name
                system.console().ask(MigratePartition(lpar=name, hold_ms=random.choice((0, 500)), wait_ms=3_000))
            case "die":
                die(system, random, clients)
            case _:
                system.pass_time(random.randint(1, 3_000_000))
    except (OSError, ClientError):
        return


def paged_out(random: Random, request: Request) -> Request:
    """The request with some of its pages absent, sometimes."""
    if random.random() < 0.6:
        return request
    return replace(
        request,
        absent_source=frozenset(page for page in range(request.source_page_count) if random.random() < 0.5),
        absent_target=frozenset(page for page in range(request.target_page_count) if random.random() < 0.3),
        csb_present=random.random() < 0.9,
    )


def die(system: System, random: Random, clients: list[tuple[Lpar, list[Window], NxGzip]]) -> None:
    """A process is killed; all but clients come back after a while."""
    name = random.choice([*system.servers, "client"])
    if name == "client":
        if clients:
            clients.pop(random.randrange(len(clients)))[0].close()
        return
    if name in system.hosts:
        system.kill(name)
        system.later(random.randint(1_000, 4_000_000), lambda: system.revive(name))
