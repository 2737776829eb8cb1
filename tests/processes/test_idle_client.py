"""A client that makes no call keeps its windows: nobody in it reads what its partition's kernel says meanwhile."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator

import pytest

from protocol.link import DEVICE
from tests.failures.rows import failure
from tests.processes.cluster import SYSTEM, Cluster, counter, eventually

PROBES = 3 * DEVICE.high_water_mark
"""More than the kernel's queue for a client and that of any socket with the link's limit could hold together."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose kernels probe their clients a hundred times a second: an idle hour in less than a minute."""
    path = tmp_path_factory.mktemp("idle")
    started = Cluster.start(path, SYSTEM.replace("beat_ms = 200", "beat_ms = 10"))
    try:
        yield started
    finally:
        started.down()


def probes_sent(cluster: Cluster, name: str) -> int:
    """How often a kernel has probed clients."""
    with urllib.request.urlopen(cluster.folder.metric_urls()[name], timeout=10) as page:
        text = page.read().decode()
    found = [line for line in text.splitlines() if re.search(r'direction="sent".*type="probe"', line)]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in found if 'link="device"' in line))


@failure(
    "client",
    "makes no call for long",
    seen="Nothing.",
    lasts="As long as it likes; shown for 768 beats, three times what the link's queue holds.",
    kept="Its session and its windows, those too that are closed for want of credit.",
)
def test_a_client_that_makes_no_call_keeps_its_windows_and_its_session(cluster: Cluster) -> None:
    with cluster.lpar("lp1") as idle, cluster.console() as console:
        windows = [idle.open_window() for _ in range(40)]
        epoch = idle.epoch
        console.change_processors("lp1", -1, 30.0)
        begin = probes_sent(cluster, "lp1")
        eventually(lambda: probes_sent(cluster, "lp1") > begin + PROBES, "the client was probed often enough", 60.0)
        with cluster.lpar("lp1") as other:
            assert counter(other, "nr_used_credits") == 40
        assert counter(idle, "nr_used_credits") == 40
        assert idle.epoch == epoch
        console.change_processors("lp1", +1, 30.0)
        for window in windows:
            window.close()
