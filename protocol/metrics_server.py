"""`/metrics` over HTTP, for Prometheus and for people. A server process starts one; so can a client program:

    with MetricsServer("127.0.0.1", 9100, nx.metrics) as server:
        print(server.url)

`collect` gives the families (`NxGzip.metrics`, or any callable) and is called in a thread of the server.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self

from prometheus_client import PROCESS_COLLECTOR, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from protocol.alarm import NoSnapshot
from protocol.metrics import MICROSECONDS_PER_SECOND, Distribution, Family, MetricKind

PATH = "/metrics"
SCRAPES_AT_ONCE = 4
"""Further ones are answered 503 at once."""
CONNECTION_S = 5.0
"""From the connection to the last byte of the answer; slower peers are cut off."""
BACKLOG = 16
POLL_S = 0.25
STACK_BYTES = 512 * 1024
"""Of a thread that serves: the default of 8 MiB each would count against the process's memory ceiling."""
TEXT = "text/plain; charset=utf-8"
BUSY = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n"

Collect = Callable[[], Sequence[Family]]


class AddressError(ValueError):
    """The text is no address to serve metrics at."""


@dataclass(frozen=True, slots=True)
class MetricsPlace:
    """Where a process serves its metrics: port 0 is a free one. The URL chosen is written into `url_file`."""

    host: str
    port: int
    url_file: Path | None = None


def parse_metrics_address(text: str) -> tuple[str, int] | None:
    """`HOST:PORT` or `[IPV6]:PORT`, or None for `off`. Raises AddressError."""
    if text == "off":
        return None
    host, separator, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not separator or not host or not (port.isascii() and port.isdigit()) or int(port) > 0xFFFF:
        raise AddressError(f"expected HOST:PORT, such as 127.0.0.1:9100 (port 0: a free one), or off (came: {text!r})")
    return host, int(port)


class _Families(Collector):
    """Families in prometheus_client's terms."""

    def __init__(self, families: Sequence[Family]) -> None:
        self.families = families

    def collect(self) -> Iterator[Metric]:
        yield from map(_metric, self.families)
        yield from PROCESS_COLLECTOR.collect()


def render(families: Sequence[Family]) -> bytes:
    """The page in Prometheus' text format, with what the operating system counts of this process."""
    return generate_latest(_Families(families))


def _metric(family: Family) -> Metric:
    if family.kind is MetricKind.HISTOGRAM:
        histogram = HistogramMetricFamily(family.name, family.meaning, labels=family.label_names)
        for sample in family.samples:
            assert isinstance(sample.value, Distribution), f"{family.name} has a value that is no distribution"
            seconds = sample.value.sum_us / MICROSECONDS_PER_SECOND
            histogram.add_metric(sample.labels, list(_buckets(sample.value)), seconds)
        return histogram
    kind = CounterMetricFamily if family.kind is MetricKind.COUNTER else GaugeMetricFamily
    metric = kind(family.name, family.meaning, labels=family.label_names)
    for sample in family.samples:
        assert not isinstance(sample.value, Distribution), f"{family.name} has a distribution as a value"
        metric.add_metric(sample.labels, sample.value)
    return metric


def _buckets(distribution: Distribution) -> Iterator[tuple[str, float]]:
    """Cumulative counts by their bound in seconds."""
    bounds = [*(str(bound_us / MICROSECONDS_PER_SECOND) for bound_us in distribution.bounds_us), "+Inf"]
    total = 0
    for bound, count in zip(bounds, distribution.counts, strict=True):
        total += count
        yield bound, total


class _Handler(BaseHTTPRequestHandler):
    """One scrape per connection."""

    server: _HttpServer
    server_version = "vasbus"
    sys_version = ""
    timeout = CONNECTION_S

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self._answer(404, TEXT, f"there is only {PATH}\n".encode())
            return
        try:
            page = render(self.server.collect())
        except NoSnapshot as error:
            self._answer(503, TEXT, f"{error}\n".encode())
        except Exception as error:
            self._answer(500, TEXT, f"the metrics could not be taken: {error!r}\n".encode(errors="replace"))
        else:
            self._answer(200, CONTENT_TYPE_PLAIN_0_0_4, page)

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not logged: they would be most of the log."""


class _HttpServer(TCPServer):
    """Accepts in one thread and answers in at most SCRAPES_AT_ONCE others."""

    allow_reuse_address = True
    request_queue_size = BACKLOG

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int], collect: Collect) -> None:
        self.address_family = family
        self.collect = collect
        self._lock = threading.Lock()
        self._open: dict[Any, tuple[threading.Thread, float]] = {}
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) < SCRAPES_AT_ONCE:
                thread = threading.Thread(target=self._serve, args=(request, client_address), daemon=True)
                self._open[request] = (thread, time.monotonic() + CONNECTION_S)
                _start(thread)
                return
        request.setblocking(False)
        request.send(BUSY)
        self.shutdown_request(request)

    def service_actions(self) -> None:
        """Between two connections: cut off the slow ones."""
        now_s = time.monotonic()
        with self._lock:
            for request, (_, due_s) in self._open.items():
                if now_s >= due_s:
                    _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away or talks nonsense is its own affair."""
        with self._lock:
            self._open.pop(request, None)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            threads = [thread for thread, _ in self._open.values()]
            for request in self._open:
                _cut(request)
        for thread in threads:
            thread.join(CONNECTION_S)

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError:
            self.handle_error(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
            self.shutdown_request(request)


def _start(thread: threading.Thread) -> None:
    """Start a thread with a small stack. Raises RuntimeError where the system gives no thread."""
    before = threading.stack_size(STACK_BYTES)
    try:
        thread.start()
    finally:
        threading.stack_size(before)


def _cut(request: Any) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


class MetricsServer:
    """Serves `collect()` at http://host:port/metrics from `start` to `close`, or as a context manager.

    Port 0 takes a free one; `url` says which. Raises OSError: EADDRINUSE where somebody else has the port, or
    another one where the host is none of this machine's. `collect` may raise NoSnapshot, which is answered 503.
    """

    def __init__(self, host: str, port: int, collect: Collect) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self._server = _HttpServer(family, (str(address[0]), port), collect)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}{PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True, name="metrics")
        self._started = False

    def start(self) -> Self:
        """Answer scrapes from now on. A second call does nothing."""
        if not self._started:
            self._started = True
            _start(self._thread)
        return self

    def close(self) -> None:
        """Stop listening, cut off who is still served. A second call does nothing."""
        if self._started:
            self._server.shutdown()
            self._thread.join()
            self._started = False
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_address_in_use(error: OSError) -> bool:
    """Whether somebody else has the port."""
    return error.errno == errno.EADDRINUSE
