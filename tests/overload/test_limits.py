"""Every limit answers by its name, or bounds what it is for: where that is shown, and what no other place shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from protocol import exchange
from protocol.codes import ExitCode
from protocol.effects import DIALLED, Effects, Exit, Peer
from protocol.exchange import BacklogFull
from protocol.link import BULK_LIMIT_BYTES, DEVICE, LINKS, MEBIBYTE, Link
from protocol.message import Message
from protocol.node import Node
from protocol.refusals import RefusalCode
from protocol.session_messages import Bye, Refused
from protocol.socket import BATCH_LIMIT, DRAIN_US, NodeSocket
from protocol.system import Limits, parse_system
from protocol.wire import Envelope, encode
from tests.overload.conftest import SYSTEM
from tests.overload.joined import Joined
from tests.system.deaths import up

TESTS = Path(__file__).parents[1]
SETTINGS = parse_system(SYSTEM, "overload")
NEIGHBOURS, EACH = 50, 40
COST_US = 100
WAIT_MS = 10_000
SESSIONS = len(SETTINGS.lpar)
"""The same limit holds for the partitions at the hypervisor."""

SHOWN = {
    "overload/test_many_opens.py": {
        "limits.windows_per_unit": "test_opens_beyond_the_units_room_name_the_hypervisors_code",
        "credits, in the kernel": "test_ten_thousand_opens_take_every_credit_and_the_rest_is_refused",
        "times.kernel_deadline_ms": "test_opens_that_a_silent_unit_keeps_waiting_end_by_their_deadline",
    },
    "overload/test_neighbours.py": {
        "limits.memory_mb": "test_a_message_that_never_ends_costs_its_sender_the_connection"
    },
    "overload/test_limits.py": {
        "limits.sessions": "test_a_partition_with_every_session_taken_says_so_until_one_leaves",
        "requests of a program": "test_a_program_with_too_many_calls_under_way_is_told_so_and_goes_on",
        "a message": "test_a_message_longer_than_any_may_be_costs_its_sender_the_connection_alone",
        "a link's share of a turn": "test_a_flood_on_one_link_does_not_keep_another_waiting",
        "a connection's share of a link": "test_a_neighbours_message_waits_for_one_of_every_other_connection",
    },
    "lpar/test_open.py": {
        "limits.descriptors_per_process": "test_a_process_reaches_its_limit_of_descriptors",
    },
    "lpar/test_mmap.py": {"mappings of a process": "test_a_process_reaches_its_limit_of_mappings"},
    "hypervisor/test_allocate.py": {
        "credits, in the hypervisor": "test_at_its_target_a_partition_gets_h_resource",
        "contexts of a unit": "test_with_every_unit_full_a_window_is_constrained",
    },
    "hypervisor/test_configuration.py": {
        "changes of a partition": "test_a_partition_has_at_most_sixty_four_changes_waiting",
    },
    "nxunit/test_acceptance.py": {
        "fifo_depth": "test_a_full_fifo_refuses_and_queues_nothing",
        "credits of a window": "test_a_second_request_on_a_window_is_refused_until_the_first_completes",
    },
    "nxunit/test_engine.py": {"request_limit_bytes": "test_source_beyond_the_request_limit_suspends_the_job"},
    "nxunit/test_resume_tokens.py": {
        "suspended jobs of a unit": "test_at_the_limit_the_window_that_holds_most_loses_its_oldest",
    },
    "protocol/test_wire.py": {
        "frame 0": "test_frame_zero_may_not_pass_its_limit",
        "a frame of bytes": "test_a_frame_of_bytes_may_reach_its_limit_and_not_pass_it",
        "frames of a message": "test_a_frame_too_many_is_refused_for_messages_without_bytes",
    },
    "protocol/test_session_exchange.py": {
        "requests outstanding": "test_more_requests_than_the_session_allows_are_refused_by_name",
    },
    "protocol/test_socket.py": {
        "messages for a slow peer": "test_a_peer_that_never_reads_fills_a_bounded_queue_and_what_falls_out_is_counted",
        "messages of a batch": "test_a_batch_ends_so_that_other_sockets_get_their_turn",
    },
    "client/test_paste_traffic.py": {
        "connections for pastes": "test_connections_are_bounded_and_the_idlest_is_hung_up",
        "pastes unanswered": "test_a_connection_carries_few_unanswered_pastes_at_a_time",
    },
    "client/test_files.py": {"paths and texts": "test_paths_and_texts_that_no_call_carries_are_errnos"},
    "client/test_decompress.py": {"output of a decompression": "test_output_beyond_the_limit_is_refused"},
}
"""Where a limit is shown to be kept: by file the limit, and the test of what is then said or done."""


def test_every_limit_of_the_system_file_and_of_the_wire_has_a_test_that_meets_it() -> None:
    for file, shown in SHOWN.items():
        tree = ast.parse((TESTS / file).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert set(shown.values()) <= functions, f"{file} has not {set(shown.values()) - functions}"
    limits = {limit for shown in SHOWN.values() for limit in shown}
    assert {f"limits.{name}" for name in Limits.model_fields} <= limits


def test_a_partition_with_every_session_taken_says_so_until_one_leaves() -> None:
    few = SETTINGS.model_copy(update={"limits": SETTINGS.limits.model_copy(update={"sessions": SESSIONS})})
    joined = Joined(few, clients=SESSIONS, lpars=["lp1"])
    told: list[Refused] = []

    def heard(name: str, body: Message) -> bool:
        told.extend([body] if isinstance(body, Refused) and name == "lp1" else [])
        return False

    joined.kept_back = heard
    late = joined.add_client("lp1")
    joined.run(lambda: bool(told), "who comes late is told something")
    assert (told[0].code, told[0].expected) == (RefusalCode.SESSIONS_FULL, f"at most {SESSIONS} sessions")
    assert not late.dialer.established
    joined.clients[0].dialer.say_bye()
    joined.run(lambda: late.dialer.established, "who came late is admitted")


def test_a_program_with_too_many_calls_under_way_is_told_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    system = up(7)
    lpar = system.client("lp1")
    window = lpar.open_window()
    monkeypatch.setattr(exchange, "BACKLOG_LIMIT", 0)
    with pytest.raises(BacklogFull, match="requests are waiting for answers"):
        lpar.open_window()
    monkeypatch.undo()
    lpar.open_window().close()
    window.close()
    lpar.close()


# Shares of a socket and of a turn. In one process a message is at its receiver as soon as it was sent.


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """Sockets of a test."""
    found: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield found
    found.destroy(linger=0)


def test_a_neighbours_message_waits_for_one_of_every_other_connection(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    listener = NodeSocket.listen(context, DEVICE, "inproc://device")
    dialers = [NodeSocket.dial(context, DEVICE, "inproc://device") for _ in range(NEIGHBOURS + 1)]
    *floods, neighbour = dialers
    for flood in floods:
        for _ in range(EACH):
            flood.send(DIALLED, [b"flood"])
    neighbour.send(DIALLED, [b"mine"])
    taken: list[bytes] = []
    while listener.readable:
        taken += [frames[0] for _, frames in listener.receive()]
    assert len(taken) == NEIGHBOURS * EACH + 1
    assert taken.index(b"mine") <= NEIGHBOURS
    for socket in [listener, *dialers]:
        socket.close()


class Slow:
    """A core to which each message of the device link is work, and that ends with the first of another link."""

    def __init__(self) -> None:
        self.effects = Effects()
        self.now_us = 1_000_000
        self.worked = 0

    def clock(self) -> int:
        return self.now_us

    def start(self, now_us: int) -> None:
        """Nothing to do."""

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        if link != DEVICE.name:
            self.effects.exit = self.effects.exit or Exit(ExitCode.OK, f"{self.worked}")
            return
        self.worked += 1
        self.now_us += COST_US

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        """Nothing to do."""

    def tick(self, now_us: int) -> None:
        """Nothing to do."""

    def wake_us(self) -> int | None:
        return None

    def stop(self, now_us: int) -> None:
        """Nothing to do."""


def test_a_flood_on_one_link_does_not_keep_another_waiting() -> None:
    core = Slow()
    node = Node(core, {DEVICE.name: "inproc://device", "hcall": "inproc://hcall"}, clock=core.clock)

    def say(link: Link, count: int) -> NodeSocket:
        socket = NodeSocket.dial(node.context, link, f"inproc://{link.name}")
        for _ in range(count):
            socket.send(DIALLED, encode(Envelope(Bye())))
        return socket

    sockets = [say(DEVICE, 2 * BATCH_LIMIT), say(LINKS["hcall"], 1)]
    for socket in sockets:
        socket.close()
    ending = node.run()
    assert 0 < int(ending.reason) <= DRAIN_US // COST_US < BATCH_LIMIT


def test_a_message_longer_than_any_may_be_costs_its_sender_the_connection_alone(tmp_path: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    endpoint = f"ipc://{tmp_path}/device"
    listener = NodeSocket.listen(context, DEVICE, endpoint)
    monitor = listener.zmq.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    honest, other = (NodeSocket.dial(context, DEVICE, endpoint) for _ in range(2))
    honest.send(DIALLED, [b"first"])
    assert listener.zmq.poll(WAIT_MS)
    assert [frames for _, frames in listener.receive()] == [[b"first"]]
    other.send(DIALLED, [bytes(BULK_LIMIT_BYTES + MEBIBYTE + 1)])
    assert monitor.poll(WAIT_MS), "the connection ends"
    assert recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED
    honest.send(DIALLED, [b"second"])
    assert listener.zmq.poll(WAIT_MS)
    assert [frames for _, frames in listener.receive()] == [[b"second"]]
    listener.zmq.disable_monitor()
    monitor.close(linger=0)
    for socket in (listener, honest, other):
        socket.close()
    context.term()
