"""Metrics over HTTP: the page, its errors, and peers that are slow, many or gone."""

from __future__ import annotations

import errno
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence

import pytest
from prometheus_client.parser import text_string_to_metric_families

from protocol import metrics_server
from protocol.alarm import NoSnapshot
from protocol.metrics import Distribution, Family, Histogram, MetricKind, counter, gauge, labelled
from protocol.metrics_server import SCRAPES_AT_ONCE, AddressError, MetricsServer, parse_metrics_address, render

DEADLINE_S = 10.0
FAMILIES = [counter("vasbus_pastes_total", "pastes", 3), gauge("vasbus_windows", "open now", 2)]


def samples(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def scrape(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with MetricsServer("127.0.0.1", 0, lambda: FAMILIES) as server:
        yield server


# The page.


def test_counters_and_gauges_keep_their_names_and_labels() -> None:
    values: dict[tuple[str, ...], float | Distribution] = {("lp1", 'a"b\n'): 1.5, ("lp2", "c"): 2.0}
    page = render([*FAMILIES, labelled(MetricKind.GAUGE, "vasbus_credits", "credits", ("lpar", "type"), values)])
    found = samples(page)
    assert found["vasbus_pastes_total", ()] == 3
    assert found["vasbus_windows", ()] == 2
    assert found["vasbus_credits", (("lpar", "lp1"), ("type", 'a"b\n'))] == 1.5
    assert b"# TYPE vasbus_pastes_total counter" in page


def test_a_histogram_is_cumulative_and_in_seconds() -> None:
    histogram = Histogram((1_000, 1_000_000))
    for duration_us in (500, 1_000, 2_000, 3_000_000):
        histogram.observe(duration_us)
    family = labelled(MetricKind.HISTOGRAM, "vasbus_turn_seconds", "turns", (), {(): histogram.picture()})
    found = samples(render([family]))
    buckets = [found["vasbus_turn_seconds_bucket", (("le", bound),)] for bound in ("0.001", "1.0", "+Inf")]
    assert buckets == [2, 3, 4]
    assert found["vasbus_turn_seconds_count", ()] == 4
    assert found["vasbus_turn_seconds_sum", ()] == pytest.approx(3.0035)


def test_the_page_tells_the_memory_of_the_process_too() -> None:
    assert samples(render([]))["process_resident_memory_bytes", ()] > 1 << 20


# What is asked for.


def test_a_free_port_is_chosen_and_its_page_served(server: MetricsServer) -> None:
    status, page = scrape(server.url)
    assert status == 200
    assert samples(page.encode())["vasbus_pastes_total", ()] == 3


def test_other_paths_and_methods_are_refused(server: MetricsServer) -> None:
    assert scrape(server.url.replace("/metrics", "/")) == (404, "there is only /metrics\n")
    assert scrape(f"{server.url}?name=x")[0] == 200
    post = urllib.request.Request(server.url, data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(post, timeout=DEADLINE_S)
    assert refusal.value.code == 501
    refusal.value.close()


def raising(error: Exception) -> Callable[[], Sequence[Family]]:
    def collect() -> Sequence[Family]:
        raise error

    return collect


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [(NoSnapshot("the loop did not answer"), 503, "the loop did not answer\n"), (KeyError("x"), 500, "KeyError")],
)
def test_metrics_that_cannot_be_had_are_an_error_and_the_server_goes_on(
    error: Exception, status: int, text: str
) -> None:
    with MetricsServer("127.0.0.1", 0, raising(error)) as server:
        for _ in range(2):
            answered, body = scrape(server.url)
            assert (answered, text in body) == (status, True)


def test_a_port_in_use_is_an_error_of_that_name(server: MetricsServer) -> None:
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(OSError, match=r".") as refusal:
        MetricsServer("127.0.0.1", port, lambda: FAMILIES)
    assert refusal.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)), ("localhost:9100", ("localhost", 9100)), ("[::1]:65535", ("::1", 65535)),
        ("off", None),
    ],
)  # fmt: skip
def test_an_address_is_host_and_port_or_off(text: str, address: tuple[str, int] | None) -> None:
    assert parse_metrics_address(text) == address


@pytest.mark.parametrize("text", ["", "9100", ":9100", "host:", "host:x", "host:-1", "host:65536", "host:9²", "on"])
def test_what_is_no_address_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(AddressError, match=r"expected HOST:PORT.*or off \(came: "):
        parse_metrics_address(text)


# Peers that are slow, many or gone.


def connect(server: MetricsServer) -> socket.socket:
    port = int(server.url.rpartition(":")[2].partition("/")[0])
    return socket.create_connection(("127.0.0.1", port), DEADLINE_S)


def serving(server: MetricsServer) -> int:
    return len(server._server._open)


def until(reached: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < end_s, f"not in {DEADLINE_S:g} s: {what}"
        time.sleep(0.005)


def test_more_scrapes_than_there_are_places_are_told_to_come_back(server: MetricsServer) -> None:
    idle = [connect(server) for _ in range(SCRAPES_AT_ONCE)]
    until(lambda: serving(server) == SCRAPES_AT_ONCE, "every place taken")
    with connect(server) as one_more:
        assert one_more.recv(100).startswith(b"HTTP/1.0 503 ")
    for peer in idle:
        peer.close()
    until(lambda: serving(server) == 0, "the places free")
    assert scrape(server.url)[0] == 200


def test_a_peer_that_drips_is_cut_off_so_that_others_are_served(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "CONNECTION_S", 0.3)
    with connect(server) as peer:
        dripped = 0

        def cut_off() -> bool:
            nonlocal dripped
            try:
                peer.send(b"G")
            except (BrokenPipeError, ConnectionResetError):
                return True
            dripped += 1
            return False

        until(cut_off, "a slow peer cut off")
    assert dripped
    until(lambda: serving(server) == 0, "its place free")


def test_closing_does_not_wait_for_a_peer_that_says_nothing() -> None:
    server = MetricsServer("127.0.0.1", 0, lambda: FAMILIES).start()
    with connect(server):
        until(lambda: serving(server) == 1, "the peer accepted")
        began_s = time.monotonic()
        server.close()
        server.close()
        assert time.monotonic() - began_s < metrics_server.CONNECTION_S
    assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]


def test_a_server_that_was_never_started_can_be_closed() -> None:
    MetricsServer("127.0.0.1", 0, lambda: FAMILIES).close()
