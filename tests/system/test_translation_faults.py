"""Requests whose pages are absent, from the NX unit through the hypervisor and the kernel back to the process."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from lpar.client import NxGzip, Pending, Request, SegmentationFault, Window
from protocol.codes import CompletionCode, CompletionExtension, CreditType, FunctionCode
from protocol.paste_messages import PAGE_BYTES, SOURCE_ADDRESS, TARGET_ADDRESS
from protocol.system import parse_system
from tests.processes.cluster import SYSTEM
from tests.system.story import booted, settle_and_compare
from tests.system.system import System, Weather

DATA = b"".join(b"line %d of a partition's bytes\n" % number for number in range(10_000))
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA))
ABSENT = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA), absent_source=frozenset({2}))
FAULT_ADDRESS = SOURCE_ADDRESS + 2 * PAGE_BYTES


@pytest.fixture
def system() -> System:
    return booted(parse_system(SYSTEM, "test system"), 1)


def pasted(window: Window, request: Request) -> Pending:
    """A request that is at its unit."""
    return window.map().paste(request)


def outstanding(system: System) -> int:
    """Faults whose window credit is not back. Of a settled one the hypervisor keeps the number until the next fault."""
    return sum(state != "settled" for state in fault_states(system))


def fault_states(system: System) -> list[str]:
    """Where each fault that the hypervisor knows of stands."""
    by_window = system.hypervisor.faults.by_window
    return [str(fault.state) for faults in by_window.values() for fault in faults.values()]


def assert_no_fault_is_left(system: System) -> None:
    settle_and_compare(system)
    assert outstanding(system) == 0


def test_an_absent_page_is_named_and_touching_it_lets_the_request_through(system: System) -> None:
    window = system.client("lp1").open_window()
    csb = window.run(ABSENT)
    assert csb.code is CompletionCode.TRANSLATION_FAULT
    assert csb.extension == CompletionExtension.TERMINATED
    assert (csb.fault_address, csb.processed_bytes, csb.target) == (FAULT_ADDRESS, 0, b"")
    done = window.run(ABSENT.touched(csb.fault_address))
    assert done.code is CompletionCode.OK
    assert zlib.decompress(done.target, wbits=-15) == DATA
    assert_no_fault_is_left(system)


def test_an_absent_target_page_is_named_likewise(system: System) -> None:
    window = system.client("lp1").open_window()
    request = Request(FunctionCode.WRAP, DATA, len(DATA), absent_target=frozenset({1}))
    csb = window.run(request)
    assert (csb.code, csb.fault_address) == (CompletionCode.TRANSLATION_FAULT, TARGET_ADDRESS + PAGE_BYTES)
    assert window.run(request.touched(csb.fault_address)).target == DATA


def test_the_window_credit_comes_back_with_the_fault_and_not_before(system: System) -> None:
    """While the kernel has not fetched the fault, the window takes no other request."""
    window = system.client("lp1").open_window()
    unit = system.hosts[system.contexts()[window.window_id]].core
    pending = pasted(window, ABSENT)
    context = unit.contexts.find(window.window_id)
    fetched_with_credit_taken: list[bool] = []

    def look() -> bool:
        states = [
            str(fault.state) for faults in system.hypervisor.faults.by_window.values() for fault in faults.values()
        ]
        if "waiting" in states:
            fetched_with_credit_taken.append(context.credits_taken == 1)
        return bool(context.credits_taken == 0)

    system.run_until(look)
    assert fetched_with_credit_taken
    assert all(fetched_with_credit_taken)
    assert pending.wait().code is CompletionCode.TRANSLATION_FAULT


def test_two_faults_at_once_are_both_served(system: System) -> None:
    lpar = system.client("lp1")
    windows = [lpar.open_window() for _ in range(2)]
    pendings = [pasted(window, ABSENT) for window in windows]
    assert [pending.wait().fault_address for pending in pendings] == [FAULT_ADDRESS] * 2
    assert all(window.run(REQUEST).code is CompletionCode.OK for window in windows)
    assert_no_fault_is_left(system)


def test_a_status_block_that_is_nowhere_ends_the_process(system: System) -> None:
    lpar, other = system.client("lp1"), system.client("lp1")
    windows = [lpar.open_window() for _ in range(3)]
    survivor = other.open_window()
    nowhere = Request(FunctionCode.COMPRESS_DHT, DATA, len(DATA), csb_address=0)
    with pytest.raises(SegmentationFault):
        windows[0].run(nowhere)
    with pytest.raises(SegmentationFault):
        lpar.open_window()
    system.run_until(lambda: system.hypervisor.ledger.in_use("lp1", CreditType.DEFAULT) == 1)
    assert survivor.run(REQUEST).code is CompletionCode.OK
    lpar.reconnect()
    assert lpar.open_window().run(REQUEST).code is CompletionCode.OK
    assert_no_fault_is_left(system)


def test_a_fault_outlives_the_hypervisor(system: System) -> None:
    """Killed while the fault waits there, and again while the window credit is on its way back."""
    window = system.client("lp1").open_window()
    for state in ("waiting", "fetched"):
        pending = pasted(window, ABSENT)
        system.run_until(lambda state=state: state in fault_states(system))  # type: ignore[misc]
        system.kill("hypervisor")
        system.pass_time(300_000)
        system.start_hypervisor()
        assert pending.wait().code is CompletionCode.TRANSLATION_FAULT
        assert window.run(REQUEST).code is CompletionCode.OK
    assert_no_fault_is_left(system)


def test_a_window_closed_during_its_fault_gives_its_credit_back(system: System) -> None:
    window = system.client("lp1").open_window()
    pasted(window, ABSENT)
    window.close()
    settle_and_compare(system)
    assert not system.hypervisor.ledger.windows
    assert outstanding(system) == 0


@pytest.mark.parametrize("victim", ["client", "lp1", "unit"])
def test_whoever_dies_during_a_fault_leaves_nothing_behind(system: System, victim: str) -> None:
    lpar = system.client("lp1")
    window = lpar.open_window()
    unit = system.contexts()[window.window_id]
    pasted(window, ABSENT)
    if victim == "client":
        lpar.close()
    else:
        name = unit if victim == "unit" else victim
        system.kill(name)
        system.pass_time(50_000)
        system.start_unit(name) if victim == "unit" else system.start_lpar(name)
    assert_no_fault_is_left(system)
    assert system.client("lp1").open_window().run(REQUEST).code is CompletionCode.OK


def test_in_bad_weather_vanishing_pages_cost_time_and_no_byte(system: System) -> None:
    """Pages go again and again while every message may be lost, repeated or late."""
    system.weather = Weather(loss=0.1, repeat=0.1, late=0.1)
    random = system.random

    def paging(request: Request) -> Request:
        pages = {page for page in range(request.source_page_count) if random.random() < 0.3}
        return replace(request, absent_source=frozenset(pages), csb_present=random.random() < 0.9)

    nx = NxGzip(system.client("lp1"), small_bytes=0, paging=paging)
    for _ in range(5):
        assert nx.decompress(nx.compress(DATA)) == DATA
    assert nx.statistics().page_faults
    assert_no_fault_is_left(system)
