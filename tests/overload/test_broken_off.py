"""Who floods a listener and is killed does it no harm: neither while the queue is full, nor when it is read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from protocol.link import LINKS, TELEMETRY
from protocol.session_messages import Bye
from protocol.socket import HEARTBEAT_INTERVAL_MS
from protocol.wire import Envelope, encode
from tests.failures.rows import failure
from tests.overload.conftest import ROOT

LISTENED_LINKS = sorted(LINKS.keys() - {TELEMETRY.name})
FULL_MS = 300
"""A socket that has taken nothing for so long is full, at both ends."""
PINGS_S = 4 * HEARTBEAT_INTERVAL_MS / 1000
DEADLINE_S = 30.0
Listeners = dict[str, subprocess.Popen[str]]


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    """A process that does not read, for every link."""
    found: Listeners = {}
    for link in LISTENED_LINKS:
        endpoint = f"ipc://{tmp_path}/{link}"
        command = [sys.executable, "-m", "tests.overload.silent_reader", link, endpoint, "listens"]
        found[link] = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield found
    for process in found.values():
        process.kill()
        process.communicate()


def fill(endpoint: str) -> None:
    """Say things until nothing is taken any more, and break off."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(endpoint)
        while stranger.poll(FULL_MS, zmq.POLLOUT):
            stranger.send_multipart(encode(Envelope(Bye())), zmq.NOBLOCK)


@failure(
    "overload",
    "a process that floods a listener is killed",
    seen="Nothing.",
    lasts="No time.",
    kept="The listener, and what it had received and not read yet.",
)
def test_a_connection_that_breaks_off_behind_a_full_queue_does_not_take_its_listener_along(
    listeners: Listeners, tmp_path: Path
) -> None:
    for link, process in listeners.items():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        fill(f"ipc://{tmp_path}/{link}")
    with pytest.raises(subprocess.TimeoutExpired):
        listeners[LISTENED_LINKS[-1]].wait(PINGS_S)
    for link, process in listeners.items():
        output, _ = process.communicate("\n", timeout=DEADLINE_S)
        assert process.returncode == 0, f"{link}: the process was aborted"
        assert int(output) >= LINKS[link].high_water_mark, link
