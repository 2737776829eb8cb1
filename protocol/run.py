"""A core as a process: its memory ceiling, its node loop, its metrics, and how all that ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib import metadata
from typing import Protocol

import structlog

from protocol.codes import ExitCode
from protocol.effects import Core, Exit
from protocol.endpoint import UNGUARDED, Security, is_tcp
from protocol.link import LINKS
from protocol.memory import limit_descriptors, limit_memory
from protocol.metrics import Family, MetricKind, labelled
from protocol.metrics_server import MetricsPlace, MetricsServer, is_address_in_use
from protocol.node import Node, Store
from protocol.socket_folder import folders_complaint
from protocol.stale_socket import EndpointTaken
from protocol.wire import WIRE_VERSION

RESTART = "start it again; what was not stored was not answered"
SNAPSHOT_S = 2.0
"""How long a scrape waits for the loop: longer than any job of the engine, shorter than Prometheus waits."""


class MeasuredCore(Core, Protocol):
    """A core that says what it counts."""

    def metrics(self) -> list[Family]:
        """The metrics of this moment."""


def run_node(
    core: MeasuredCore,
    listen: Mapping[str, str],
    memory_mb: int,
    metrics: MetricsPlace | None,
    store: Store | None = None,
    publish: str | None = None,
    work: Callable[[], bool] | None = None,
    security: Security = UNGUARDED,
) -> Exit:
    """Run a core as this process until it ends, under a ceiling of memory; says how it ended.

    That is INSECURE where it would listen for other machines without keys, or for other users; ADDRESS_IN_USE where
    somebody else has one of the endpoints or the port of the metrics; FAILED where metrics cannot be served at that
    host; MEMORY at the ceiling. Raises zmq.ZMQError where an endpoint cannot be bound for another reason.
    """
    complaint = _exposure([*listen.values(), *([publish] if publish else [])], security)
    if complaint is not None:
        return Exit(ExitCode.INSECURE, complaint)
    _limit(memory_mb, listen)

    def families() -> list[Family]:
        return [build_info(), *core.metrics()]

    try:
        node = Node(core, listen, store=store, publish=publish, work=work, metrics=families, keys=security.keys)
    except EndpointTaken as error:
        return Exit(ExitCode.ADDRESS_IN_USE, str(error))
    try:
        return _run_measured(node, metrics)
    except MemoryError:
        return Exit(ExitCode.MEMORY, f"the ceiling of {memory_mb} MiB was reached (limits.memory_mb): {RESTART}")


def _exposure(endpoints: Sequence[str], security: Security) -> str | None:
    """Why a process must not listen there; None where it may. That it may although it is insecure is logged."""
    if security.insecure:
        structlog.get_logger().warning("insecure", meaning="who reaches its sockets may do everything")
        return None
    return security.complaint(endpoints) or folders_complaint(endpoints)


def _limit(memory_mb: int, listen: Mapping[str, str]) -> None:
    """Set the ceilings of this process: its memory, and as many connections as fit into that."""
    limit_memory(memory_mb)
    reached_by_others = [LINKS[link].frame_limit_bytes for link, endpoint in listen.items() if is_tcp(endpoint)]
    limit_descriptors(memory_mb, max(reached_by_others, default=None))


def _run_measured(node: Node, metrics: MetricsPlace | None) -> Exit:
    """Run a node to its end, and serve its metrics meanwhile. Raises MemoryError at the ceiling."""
    with ExitStack() as stack:
        stack.callback(node.close)
        if metrics is not None:
            try:
                server = serve_metrics(node, metrics)
            except OSError as error:
                return _not_served(metrics, error)
            stack.callback(_stop_serving, server, metrics)
        return node.run()


def serve_metrics(node: Node, place: MetricsPlace) -> MetricsServer:
    """Serve what the node counts; its loop is asked, so that no other thread looks at the core. Raises OSError."""
    server = MetricsServer(place.host, place.port, lambda: node.snapshots.ask(SNAPSHOT_S))
    try:
        if place.url_file is not None:
            fresh = place.url_file.with_name(place.url_file.name + ".new")
            fresh.write_text(server.url + "\n")
            fresh.replace(place.url_file)
    except OSError:
        server.close()
        raise
    structlog.get_logger().info("metrics_served", url=server.url)
    return server.start()


def build_info() -> Family:
    """A constant 1 whose labels say what runs here."""
    labels = ("version", "wire_version")
    release = (metadata.version("vasbus"), str(WIRE_VERSION))
    return labelled(MetricKind.GAUGE, "vasbus_build_info", "the release that runs", labels, {release: 1})


def _stop_serving(server: MetricsServer, place: MetricsPlace) -> None:
    server.close()
    if place.url_file is not None:
        place.url_file.unlink(missing_ok=True)


def _not_served(place: MetricsPlace, error: OSError) -> Exit:
    advice = "choose another one with --metrics HOST:PORT (port 0: a free one), or --metrics off"
    if is_address_in_use(error):
        return Exit(ExitCode.ADDRESS_IN_USE, f"metrics: port {place.port} of {place.host} is in use: {advice}")
    return Exit(ExitCode.FAILED, f"metrics cannot be served at {place.host} port {place.port}: {error}: {advice}")
