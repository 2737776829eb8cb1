"""What a client counts, for a monitoring system. Pure."""

from __future__ import annotations

from lpar.client.statistics import DirectionStatistics, Statistics
from protocol.metrics import Distribution, Family, MetricKind, Sample, counter, gauge, labelled

NX, SOFTWARE = "nx", "software"


def metrics_of(picture: Statistics) -> list[Family]:
    """The families of one NxGzip's counters."""
    return [
        *_bytes(picture),
        labelled(
            MetricKind.COUNTER,
            "vasbus_client_pastes_total",
            "Pastes: accepted, refused (CR0 = 0), faulted (taken to the kernel), lost (accepted, but no CSB came)",
            ("outcome",),
            {
                ("accepted",): picture.accepted,
                ("refused",): picture.refusals,
                ("faulted",): picture.faults,
                ("lost",): picture.lost_requests,
            },
        ),
        labelled(
            MetricKind.COUNTER,
            "vasbus_client_windows_total",
            "What happened to windows: opened, refused, suspended (credit lost), resumed (credit back), reopened",
            ("event",),
            {
                ("opened",): picture.opens,
                ("refused",): picture.open_refusals,
                ("suspended",): picture.suspensions,
                ("resumed",): picture.resumptions,
                ("reopened",): picture.reopenings,
            },
        ),
        gauge("vasbus_client_suspended", "1 while the window is known to lack its credit", int(picture.suspended)),
        counter("vasbus_client_requests_total", "Requests handed to the accelerator", picture.requests),
        counter("vasbus_client_page_faults_total", "Requests that met an absent page (CC 250)", picture.page_faults),
        counter("vasbus_client_timeouts_total", "Requests that no NX unit answered in time", picture.timeouts),
        counter("vasbus_client_repeats_total", "Messages sent again for want of an answer", picture.repeats),
        counter("vasbus_client_restarts_total", "Streams that software began anew after an NX unit", picture.restarts),
        _histogram("vasbus_client_request_seconds", "From paste to CSB", picture.request_time),
        _histogram("vasbus_client_open_seconds", "Opening a window", picture.open_time),
    ]


def _bytes(picture: Statistics) -> list[Family]:
    directions = {"compress": picture.compress, "decompress": picture.decompress}
    handled: dict[tuple[str, ...], float | Distribution] = {}
    for name, direction in directions.items():
        handled |= _handled(name, direction)
    return [
        labelled(
            MetricKind.COUNTER,
            "vasbus_client_bytes_total",
            "Input bytes by who handled them; software's by the reason why no NX unit did",
            ("direction", "handler", "reason"),
            handled,
        ),
        labelled(
            MetricKind.COUNTER,
            "vasbus_client_output_bytes_total",
            "Output bytes of finished calls",
            ("direction",),
            {(name,): direction.bytes_out for name, direction in directions.items()},
        ),
        labelled(
            MetricKind.COUNTER,
            "vasbus_client_calls_total",
            "Finished calls",
            ("direction",),
            {(name,): direction.calls for name, direction in directions.items()},
        ),
    ]


def _handled(name: str, direction: DirectionStatistics) -> dict[tuple[str, ...], float | Distribution]:
    """Every reason is there from the start, so that a first fallback is seen as a rise."""
    handled: dict[tuple[str, ...], float | Distribution] = {(name, NX, ""): direction.nx_bytes}
    for reason, length in direction.fallback.items():
        handled[name, SOFTWARE, reason.value] = length
    return handled


def _histogram(name: str, meaning: str, distribution: Distribution) -> Family:
    return Family(name, MetricKind.HISTOGRAM, meaning, (), (Sample((), distribution),))
