"""What abuse must not move: processes, credits, windows, sessions, counters."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from lpar.client import NxGzip
from protocol.console_messages import SystemStatus, WindowRow
from protocol.system import Addresses
from tests.processes.cluster import Cluster

LPARS = ("lp1", "lp2", "lp3")
UNITS = ("nx0", "nx1")
PARTS = ("hypervisor", *LPARS, *UNITS)
GAUGES = (
    "vasbus_credits_target", "vasbus_credits_in_use", "vasbus_windows", "vasbus_sessions", "vasbus_units",
    "vasbus_lpar_credits", "vasbus_lpar_windows", "vasbus_lpar_processes", "vasbus_nx_contexts",
    "vasbus_nx_faults_outstanding", "vasbus_nx_fifo_requests",
)  # fmt: skip
Sample = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of the whole cluster as its processes tell it."""

    pids: dict[str, int]
    system: SystemStatus
    windows: tuple[WindowRow, ...]
    gauges: dict[Sample, float]


def standing(cluster: Cluster) -> Standing:
    """Ask everybody. The one console that asks is counted each time."""
    with cluster.console() as console:
        system = console.system().model_copy(update={"telemetry_sequence": 0})
        windows = tuple(console.windows(None))
        gauges = dict(gauge for part in PARTS for gauge in gauges_of(cluster, part))
    return Standing({part: cluster.pid(part) for part in PARTS}, system, windows, gauges)


def gauges_of(cluster: Cluster, part: str) -> Iterator[tuple[Sample, float]]:
    """The gauges of one process that nobody but users and operators move."""
    for family in families_of(cluster, part):
        if family.name in GAUGES:
            for sample in family.samples:
                yield (part, sample.name, tuple(sorted(sample.labels.items()))), sample.value


def refused_by_link(cluster: Cluster) -> dict[str, dict[str, int]]:
    """How many messages the processes have refused so far, by link and refusal code."""
    found: dict[str, dict[str, int]] = {}
    for part in PARTS:
        for family in families_of(cluster, part):
            for sample in family.samples:
                if sample.name == "vasbus_messages_refused_total":
                    codes = found.setdefault(sample.labels["link"], {})
                    codes[sample.labels["code"]] = codes.get(sample.labels["code"], 0) + int(sample.value)
    return found


def families_of(cluster: Cluster, part: str) -> list[Metric]:
    """What one process serves as its metrics."""
    with urllib.request.urlopen(cluster.folder.metric_urls()[part], timeout=10) as page:
        return list(text_string_to_metric_families(page.read().decode()))


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no resident memory")


def endpoints(addresses: Addresses) -> list[tuple[str, str]]:
    """Every listening socket with its link: the stream of telemetry apart."""
    return [
        ("hcall", addresses.hcall), ("fabric", addresses.fabric), ("hmc", addresses.hmc),
        *(("device", endpoint) for endpoint in addresses.device.values()),
        *(("paste", endpoint) for endpoint in addresses.paste.values()),
    ]  # fmt: skip


def does_its_job(cluster: Cluster) -> None:
    """Open, paste, compress and back on every partition; take a core away and give it back."""
    data = b"after the storm " * 20_000
    for name in LPARS:
        with cluster.lpar(name) as lpar, NxGzip(lpar) as nx:
            assert nx.decompress(nx.compress(data)) == data
            picture = nx.statistics()
            assert picture.compress.nx_bytes == len(data), picture
    with cluster.console() as console:
        assert console.change_processors("lp1", -1).total_after == 20
        assert console.change_processors("lp1", +1).total_after == 40
