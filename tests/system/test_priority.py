"""QoS credits end to end: high priority at the NX unit, while default windows are more than the unit takes."""

from __future__ import annotations

import pytest

from lpar.client import PasteRefused, Request, Window
from protocol.codes import CompletionCode, CompletionExtension, FunctionCode
from protocol.console_messages import ConfigurationApplied, SetQosCredits
from protocol.system import parse_system
from tests.processes.cluster import SYSTEM
from tests.system.story import booted, settle_and_compare
from tests.system.system import System

DATA = b"".join(b"line %d of a partition's bytes\n" % number for number in range(10_000))
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
FIFO_DEPTH = 8
QOS_CREDITS = 12
SLOW_JOB_US = 20_000
"""Slow enough for requests to wait for each other."""


@pytest.fixture
def system() -> System:
    system = booted(parse_system(SYSTEM, "test system"), 1)
    applied = system.console().ask(SetQosCredits(lpar="lp1", credits=QOS_CREDITS, wait_ms=10_000))
    assert isinstance(applied, ConfigurationApplied)
    system.job_us = SLOW_JOB_US
    return system


def unit_of(system: System, window: Window) -> str:
    return system.contexts()[window.window_id]


def windows_on_one_unit(system: System, unit: str, count: int, *, qos: bool) -> list[Window]:
    """So many open windows on a unit; those that were placed elsewhere are closed."""
    lpar = system.client("lp1")
    opened = [lpar.open_window(qos=qos, vas_id=-1) for _ in range(count)]
    assert {unit_of(system, window) for window in opened} == {unit}, "a partition's windows are on its home chip"
    for window in opened:
        window.map()
    return opened


def test_with_default_windows_over_committed_their_pastes_come_back_busy_and_qos_pastes_do_not(system: System) -> None:
    default = windows_on_one_unit(system, "nx0", 20, qos=False)
    qos = windows_on_one_unit(system, "nx0", QOS_CREDITS, qos=True)
    refused = 0
    for window in default:
        try:
            window.map().paste(REQUEST)
        except PasteRefused:
            refused += 1
    pendings = [window.map().paste(REQUEST) for window in qos]
    assert refused, f"{len(default)} requests fitted into a FIFO of {FIFO_DEPTH}"
    assert all(pending.wait().processed_bytes for pending in pendings)
    settle_and_compare(system)


def test_while_high_priority_work_waits_a_request_gets_a_small_part_done(system: System) -> None:
    low_bytes = system.settings.low_limit_bytes
    (alone,) = windows_on_one_unit(system, "nx0", 1, qos=False)
    assert alone.run(REQUEST).code is CompletionCode.OK
    qos = windows_on_one_unit(system, "nx0", 4, qos=True)
    pendings = [window.map().paste(REQUEST) for window in qos]
    csbs = [pending.wait() for pending in pendings]
    held = [csb for csb in csbs if csb.code is CompletionCode.DATA_LENGTH]
    assert held
    assert all(csb.processed_bytes <= low_bytes and csb.extension & CompletionExtension.PARTIAL for csb in held)
    assert csbs[-1].code is CompletionCode.OK, "nothing waited behind the last one"
