"""What an NxGzip tells a monitoring system follows its counters."""

from __future__ import annotations

import gzip
from dataclasses import replace

from lpar.client import Lpar, NxGzip, Request
from protocol.codes import FallbackReason
from protocol.metrics import Distribution, Family, MetricKind
from tests.client.test_compress import TEXT, limit_to
from tests.client.world import World

PART = 65_536


def values(families: list[Family], name: str) -> dict[tuple[str, ...], float | Distribution]:
    (family,) = [family for family in families if family.name == name]
    assert all(len(sample.labels) == len(family.label_names) for sample in family.samples)
    return {sample.labels: sample.value for sample in family.samples}


def test_names_are_unique_and_follow_the_rules(lpar: Lpar) -> None:
    families = NxGzip(lpar).metrics()
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.name.startswith("vasbus_client_")
        assert family.name.endswith("_total") == (family.kind is MetricKind.COUNTER)
        assert family.meaning
        assert family.samples


def test_every_byte_has_a_handler_and_software_a_reason(world: World, lpar: Lpar) -> None:
    limit_to(world, PART)
    nx = NxGzip(lpar)
    nx.compress(TEXT)
    world.kernel.suspend()
    compressed = nx.compress(TEXT)
    nx.decompress(compressed)
    handled = values(nx.metrics(), "vasbus_client_bytes_total")
    assert handled["compress", "nx", ""] == len(TEXT)
    assert handled["compress", "software", "window_suspended"] == len(TEXT)
    assert handled["decompress", "software", "window_suspended"] == len(compressed)
    assert len(handled) == 2 * (1 + len(FallbackReason))
    assert values(nx.metrics(), "vasbus_client_suspended") == {(): 1}
    assert values(nx.metrics(), "vasbus_client_windows_total")["suspended",] == 1
    assert values(nx.metrics(), "vasbus_client_calls_total") == {("compress",): 2, ("decompress",): 1}
    assert values(nx.metrics(), "vasbus_client_output_bytes_total")["decompress",] == len(TEXT)


def test_pastes_are_counted_by_outcome(world: World, lpar: Lpar) -> None:
    nx = NxGzip(lpar)
    world.nx0.refuse_next = world.nx1.refuse_next = 3
    nx.compress(TEXT)
    world.kernel.move(world.nx0)
    nx.compress(TEXT)
    assert values(nx.metrics(), "vasbus_client_pastes_total") == {
        ("accepted",): 2, ("faulted",): 1, ("lost",): 0, ("refused",): 3,
    }  # fmt: skip


def test_page_faults_are_counted(lpar: Lpar) -> None:
    gone = [True]

    def paging(request: Request) -> Request:
        return replace(request, csb_present=not gone.pop()) if gone else request

    nx = NxGzip(lpar, paging=paging)
    assert gzip.decompress(nx.compress(TEXT)) == TEXT
    assert values(nx.metrics(), "vasbus_client_page_faults_total") == {(): 1}
    assert values(nx.metrics(), "vasbus_client_requests_total") == {(): 2}


def test_latencies_are_those_of_the_requests_and_opens(world: World, lpar: Lpar) -> None:
    world.kernel.delay["tx_win_open"] = 40_000
    nx = NxGzip(lpar)
    nx.compress(TEXT)
    nx.compress(TEXT)
    opening = values(nx.metrics(), "vasbus_client_open_seconds")[()]
    request = values(nx.metrics(), "vasbus_client_request_seconds")[()]
    assert isinstance(opening, Distribution)
    assert isinstance(request, Distribution)
    assert (sum(opening.counts), sum(request.counts)) == (1, 2)
    assert 40_000 < opening.sum_us < 41_000
    assert request.sum_us == 2 * (500 + 2 * 50), "the service and the way there and back"
