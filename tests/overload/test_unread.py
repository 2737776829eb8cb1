"""A process that dials and does not read: its connection lives, and it reads what was sent as soon as it likes to.

A queue that is full would not do. libzmq then stops reading the connection, heartbeats included, gives it up, and
aborts the process when that begins to read again.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from protocol.link import LINKS, TELEMETRY
from protocol.session_messages import Probe
from protocol.socket import HEARTBEAT_TIMEOUT_MS, NodeSocket
from protocol.wire import Envelope, encode
from tests.processes.cluster import eventually

ROOT = Path(__file__).parents[2]
DIALLED_LINKS = sorted(LINKS.keys() - {TELEMETRY.name})
SILENCE_MS = 3 * HEARTBEAT_TIMEOUT_MS
"""An end of the connection for want of heartbeats would have come twice by then. An absence takes time to be seen."""
DEADLINE_S = 20.0


@dataclass(slots=True)
class Silent:
    """A process that does not read, and the listening socket that has its connection."""

    link: str
    process: subprocess.Popen[str]
    listener: NodeSocket
    monitor: zmq.Socket[bytes]
    peer: bytes = b""
    sent: int = 0

    def fill(self) -> None:
        """Send more than queues with the link's limit take at both ends: the listener is never held up for long."""
        for _ in range(3 * LINKS[self.link].high_water_mark):
            self.listener.send(self.peer, encode(Envelope(Probe())))
            eventually(self._taken, f"{self.link}: the process's socket takes what it does not read", 5.0)
            self.sent += 1

    def _taken(self) -> bool:
        assert not self.listener.flush(), "the connection is gone"
        return not self.listener.has_waiting


@pytest.fixture
def silent_processes(tmp_path: Path) -> Iterator[list[Silent]]:
    """One for every link that is dialled."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    found = []
    for link in DIALLED_LINKS:
        endpoint = f"ipc://{tmp_path}/{link}"
        listener = NodeSocket.listen(context, LINKS[link], endpoint)
        monitor = listener.zmq.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        command = [sys.executable, "-m", "tests.overload.silent_reader", link, endpoint, "dials"]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        found.append(Silent(link, process, listener, monitor))
    yield found
    for silent in found:
        silent.process.kill()
        silent.process.communicate()
        silent.listener.zmq.disable_monitor()
        silent.monitor.close(linger=0)
        silent.listener.close()
    context.term()


def test_whoever_dials_and_does_not_read_keeps_its_connection_and_reads_all_later(
    silent_processes: list[Silent],
) -> None:
    for silent in silent_processes:
        assert silent.listener.zmq.poll(int(DEADLINE_S * 1000)), f"{silent.link}: nobody dialled"
        silent.peer = next(peer for peer, _ in silent.listener.receive())
        silent.fill()
    poller = zmq.Poller()
    for silent in silent_processes:
        poller.register(silent.monitor, zmq.POLLIN)
    ended = [recv_monitor_message(monitor) for monitor, _ in poller.poll(SILENCE_MS)]
    assert not ended, "a connection was given up"
    for silent in silent_processes:
        output, _ = silent.process.communicate("\n", timeout=DEADLINE_S)
        assert silent.process.returncode == 0, f"{silent.link}: the process was aborted"
        assert output == f"ready\n{silent.sent}\n", silent.link
