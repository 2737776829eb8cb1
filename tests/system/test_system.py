"""All roles together: what one of them does is what the others see, and what a death costs."""

from __future__ import annotations

import zlib

import pytest

from lpar.client import Request
from protocol.codes import CompletionCode, CreditType, FunctionCode
from protocol.console_messages import (
    ChangeProcessors,
    ConfigurationApplied,
    SetEntitlement,
)
from protocol.dialer import Identity
from protocol.refusals import RefusalCode
from protocol.system import SystemSettings, parse_system
from tests.processes.cluster import SYSTEM
from tests.system.story import booted, settle_and_compare

DATA = b"a partition's bytes, over and over " * 300
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))


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
