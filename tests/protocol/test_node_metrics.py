"""What a node counts, and how other threads get to know it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.alarm import NoSnapshot
from protocol.codes import ExitCode
from protocol.hcall_messages import QueryConfiguration
from protocol.message import Message
from protocol.metrics import Distribution, Family, counter
from protocol.metrics_server import MetricsPlace, MetricsServer
from protocol.node_metrics import NodeCounters
from protocol.refusals import RefusalCode
from protocol.run import build_info, run_node, serve_metrics
from protocol.session_messages import Hello, Probe
from protocol.wire import refuse
from tests.protocol.caller import DEADLINE_S, RealCaller
from tests.protocol.counting_node import SHORT, CountingCore, FileStore
from tests.protocol.running import Running
from tests.protocol.test_metrics_server import samples, scrape
from tests.protocol.test_node import StallingStore

QUERY = QueryConfiguration(generation=0)
Values = dict[tuple[str, ...], float | Distribution]


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    running = Running(folder)
    yield running
    running.quit()
    assert running.join().code is ExitCode.OK


def values(families: object, name: str) -> Values:
    assert isinstance(families, list)
    (found,) = [family for family in families if family.name == name]
    return {sample.labels: sample.value for sample in found.samples}


def test_messages_are_counted_by_link_direction_and_type_and_refusals_by_code() -> None:
    counters = NodeCounters()
    said: list[Message] = [Probe(), Probe(), refuse(RefusalCode.EPOCH, "1", "2")]
    for body in said:
        counters.sent("hcall", body)
    counters.received("hcall", QUERY)
    counters.refuse("fabric", RefusalCode.GARBAGE)
    counters.dropped["hcall"] += 2
    families = counters.families({"hcall": 3, "fabric": 0}, suppressed=4)
    assert values(families, "vasbus_messages_total") == {
        ("hcall", "sent", "probe"): 2, ("hcall", "sent", "refused"): 1, ("hcall", "received", "query_configuration"): 1,
    }  # fmt: skip
    refused = {("hcall", "epoch"): 1, ("fabric", "garbage"): 1}
    assert values(families, "vasbus_messages_refused_total") == refused
    assert values(families, "vasbus_messages_dropped_total") == {("hcall",): 5, ("fabric",): 0}
    assert values(families, "vasbus_log_lines_suppressed_total") == {(): 4}


def test_a_node_counts_what_passes_its_sockets_its_turns_and_its_commits(running: Running) -> None:
    with RealCaller(running.endpoint) as caller:
        caller.connect()
        for _ in range(5):
            caller.dialer.call(caller.dialer.session, QUERY, 0)
        caller.raw(b"\xc1")
        caller.until(lambda: len(caller.answers()) == 5, "answers")
    # On a busy machine the caller repeats what is not answered in time, or dials anew.
    hellos = sum(isinstance(envelope.body, Hello) for envelope in caller.sent)
    families = list(running.node.snapshots.ask(DEADLINE_S))
    messages = values(families, "vasbus_messages_total")
    received, sent, greeted = (
        messages[key]
        for key in (
            ("hcall", "received", "query_configuration"),
            ("hcall", "sent", "configuration"),
            ("hcall", "received", "hello"),
        )
    )
    assert isinstance(received, int)
    assert isinstance(sent, int)
    assert isinstance(greeted, int)
    assert 5 <= sent <= received
    assert 1 <= greeted <= hellos
    assert values(families, "vasbus_messages_refused_total")["hcall", "garbage"] == 1
    for name, least in (("vasbus_turn_seconds", 3), ("vasbus_commit_seconds", 1)):
        distribution = values(families, name)[()]
        assert isinstance(distribution, Distribution)
        assert sum(distribution.counts) >= least
        assert distribution.sum_us > 0


def test_only_the_loops_own_thread_looks_at_the_core(running: Running) -> None:
    threads: list[threading.Thread] = []

    def metrics() -> list[Family]:
        threads.append(threading.current_thread())
        return [counter("vasbus_core_total", "of the core", 1)]

    running.node.metrics = metrics
    assert values(list(running.node.snapshots.ask(DEADLINE_S)), "vasbus_core_total") == {(): 1}
    assert threads == [running._thread]


def test_metrics_that_raise_end_neither_the_node_nor_the_wait(running: Running) -> None:
    def metrics() -> list[Family]:
        raise KeyError("a window that is not there")

    running.node.metrics = metrics
    with pytest.raises(NoSnapshot, match="KeyError"):
        running.node.snapshots.ask(DEADLINE_S)
    running.node.metrics = list
    assert running.node.snapshots.ask(DEADLINE_S)


def test_a_loop_that_does_not_answer_is_503_and_the_next_scrape_after_it_is_served(folder: Path) -> None:
    store = StallingStore()
    # The caller does not beat while the scrape waits: with a short lease its end would be a second commit.
    running = Running(folder, store, terms=replace(SHORT, lease_us=60_000_000))
    with serve_metrics(running.node, MetricsPlace("127.0.0.1", 0)) as server, RealCaller(running.endpoint) as caller:
        caller.connect()
        store.stall.set()
        caller.dialer.call(caller.dialer.session, QUERY, 0)
        caller.transmit()
        assert store.stalled.wait(DEADLINE_S)
        status, text = scrape(server.url)
        assert (status, "did not answer within 2 s" in text) == (503, True)
        store.stall.clear()
        store.go_on.set()
        caller.until(lambda: bool(caller.answers()), "the answer")
        status, page = scrape(server.url)
        assert status == 200
        assert samples(page.encode())["vasbus_commit_seconds_count", ()] == 1
    running.quit()
    running.join()
    with pytest.raises(NoSnapshot, match="ending"):
        running.node.snapshots.ask(DEADLINE_S)


def test_whoever_asks_a_loop_that_is_ending_does_not_wait_for_the_deadline(folder: Path) -> None:
    running = Running(folder)
    running.quit()
    running.join()
    running.node.snapshots._closed = False
    running.node.snapshots._alarm.ring = lambda: None  # type: ignore[method-assign]
    told: list[str] = []

    def ask() -> None:
        try:
            running.node.snapshots.ask(DEADLINE_S)
        except NoSnapshot as error:
            told.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    while not running.node.snapshots._wanted:
        assert thread.is_alive()
    running.node.snapshots.close()
    thread.join(DEADLINE_S)
    assert told == ["the process is ending"]


def test_the_build_says_its_release_and_its_wire_version() -> None:
    (sample,) = build_info().samples
    assert sample.value == 1
    assert all(sample.labels)


class MeasuredCountingCore(CountingCore):
    """A counting core that ends as soon as it has begun."""

    def start(self, now_us: int) -> None:
        self.stop(now_us)

    def metrics(self) -> list[Family]:
        return [counter("vasbus_counted_total", "requests", self.count)]


def test_the_url_stands_in_a_file_while_the_process_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.run.limit_memory", lambda _megabytes: None)
    file = folder / "lp1.metrics"
    seen: list[str] = []
    core = MeasuredCountingCore()
    original = core.stop

    def stop(now_us: int) -> None:
        seen.append(file.read_text())
        original(now_us)

    monkeypatch.setattr(core, "stop", stop)
    place = MetricsPlace("127.0.0.1", 0, file)
    ending = run_node(core, {"hcall": f"ipc://{folder}/hcall"}, 64, place, store=FileStore(folder / "store"))
    assert ending.code is ExitCode.OK
    assert [url.startswith("http://127.0.0.1:") and url.endswith("/metrics\n") for url in seen] == [True]
    assert not file.exists()


@pytest.mark.parametrize(("host", "code"), [("127.0.0.1", ExitCode.ADDRESS_IN_USE), ("192.0.2.1", ExitCode.FAILED)])
def test_a_port_that_cannot_be_had_ends_the_process_with_its_code_and_advice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, host: str, code: ExitCode
) -> None:
    monkeypatch.setattr("protocol.run.limit_memory", lambda _megabytes: None)
    endpoint = {"hcall": f"ipc://{folder}/hcall"}
    with MetricsServer("127.0.0.1", 0, list) as taken:
        port = int(taken.url.rpartition(":")[2].partition("/")[0])
        ending = run_node(MeasuredCountingCore(), endpoint, 64, MetricsPlace(host, port))
    assert ending.code is code
    assert f"{port}" in ending.reason
    assert "--metrics off" in ending.reason
