"""A storm of random and mutated messages at every listening socket, after which the cluster stands as before."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

import pytest
import zmq

from lpar.client import Request
from protocol.codes import CompletionCode
from protocol.device_messages import DeviceOpened
from protocol.link import LINKS
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.socket import HEARTBEAT_TIMEOUT_MS
from tests.abuse.attacker import Attacker, frame
from tests.abuse.mutations import Frames, Mutator
from tests.abuse.standing import PARTS, does_its_job, endpoints, refused_by_link, rss_kib, standing
from tests.processes.cluster import Cluster, eventually

SEED = 20260101
MESSAGES_PER_SOCKET = 20_000
CONNECTIONS_PER_SOCKET = 15
CLIENTS_PER_DEVICE = 5
"""Attackers that are clients in their own right, and speak with the epoch of their session."""
BURST = 50
STREAMS_PER_SOCKET = 20
GROWTH_MOST_KIB = 128 * 1024
"""What full queues of a burst may leave behind in the allocator; a second storm adds nothing to it."""
TOO_LONG = ((1 << 20) + 1, 6 << 20)
"""Longer than frame 0 may be, and longer than the socket lets a message be."""


def marked(attacker: Attacker) -> None:
    """Wait until everything this attacker said has been dealt with: the answer to a last message has come."""
    marker = os.urandom(8).hex()
    attacker.hear_waiting()
    attacker.send([frame(marker, {})])
    while True:
        body = attacker.hear().body
        if isinstance(body, Refused) and body.code is RefusalCode.UNKNOWN_TYPE and marker in body.came:
            return


def storm(link: str, endpoint: str, supply: Iterator[Frames]) -> int:
    """Bursts from many connections in turn; the messages sent."""
    sent = 0
    with ExitStack() as stack:
        attackers = [stack.enter_context(Attacker(link, endpoint)) for _ in range(CONNECTIONS_PER_SOCKET)]
        if link == "device":
            for attacker in attackers[:CLIENTS_PER_DEVICE]:
                attacker.hello("client")
                assert isinstance(attacker.say("open_device", {}), DeviceOpened)
        while burst := list(islice(supply, BURST)):
            attacker = attackers[sent // BURST % len(attackers)]
            for frames in burst:
                attacker.send(attacker.own(frames))
                attacker.hear_waiting()
            sent += len(burst)
        for attacker in attackers:
            marked(attacker)
    return sent


def too_long(link: str, endpoint: str) -> None:
    """Frames beyond every limit: one is refused by name, the other costs its connection."""
    with Attacker(link, endpoint) as attacker:
        answer = attacker.ask(bytes(TOO_LONG[0]))
        assert isinstance(answer, Refused)
        assert answer.code is RefusalCode.FRAME_SIZE
        attacker.send([bytes(TOO_LONG[1])])


def no_zeromq(endpoint: str) -> int:
    """Bytes that are no ZeroMQ handshake, or half of one."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL"
    for number in range(STREAMS_PER_SOCKET):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.connect(endpoint.removeprefix("ipc://"))
            try:
                stream.sendall(greeting[: 3 * number] + os.urandom(200 * number))
            except (BrokenPipeError, ConnectionResetError):
                continue
    return STREAMS_PER_SOCKET


def subscribers(endpoint: str, supply: Iterator[Frames]) -> int:
    """Whoever listens to the telemetry may say things to it as well."""
    sent = 0
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for kind in (zmq.XSUB, zmq.DEALER):
        with context.socket(kind) as stranger:
            stranger.connect(endpoint)
            for frames in islice(supply, MESSAGES_PER_SOCKET):
                if kind == zmq.XSUB:
                    assert stranger.poll(10_000, zmq.POLLOUT)
                    stranger.send_multipart(frames)
                    sent += 1
            stranger.close(linger=1000)
    context.term()
    return sent


@contextmanager
def measured(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Print each process's memory before and after, and fail where it has grown without bound."""
    before = {part: rss_kib(cluster.pid(part)) for part in PARTS}
    yield
    after = {part: rss_kib(cluster.pid(part)) for part in PARTS}
    with capsys.disabled():
        for part in PARTS:
            print(f"\n  {part:10} {before[part]:7} KiB before, {after[part]:7} KiB after", end="")
    assert all(after[part] - before[part] < GROWTH_MOST_KIB for part in PARTS)


def test_a_storm_of_bad_messages_at_every_socket_changes_nothing(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    does_its_job(cluster)
    addresses = cluster.folder.addresses()
    mutators = {name: Mutator(link, SEED) for name, link in LINKS.items()}
    with cluster.lpar("lp1") as honest:
        window = honest.open_window()
        before = standing(cluster)
        with measured(cluster, capsys):
            sent = 0
            for link, endpoint in endpoints(addresses):
                sent += storm(link, endpoint, mutators[link].messages(MESSAGES_PER_SOCKET))
                too_long(link, endpoint)
                sent += no_zeromq(endpoint)
            sent += subscribers(addresses.telemetry, mutators["telemetry"].messages(MESSAGES_PER_SOCKET))
            sent += no_zeromq(addresses.telemetry)
            assert sent >= 9 * MESSAGES_PER_SOCKET
            leases_s = HEARTBEAT_TIMEOUT_MS / 1000 + 20
            refusals = refused_by_link(cluster)
            eventually(lambda: standing(cluster) == before, "the attackers' own sessions are gone", leases_s)
        answer = window.run(Request(0, b"still mine " * 1000, 20_000), 10)
        assert answer.code is CompletionCode.OK
        window.close()
    eventually(lambda: not cluster.windows(), "the window is closed")
    does_its_job(cluster)
    with capsys.disabled():
        print(f"\n  {sent} messages, seed {SEED}; refused: {refusals}")
    for link, codes in refusals.items():
        assert {"garbage", "version", "unknown_type", "body", "frames", "frame_size"} <= codes.keys(), link
    assert all({"no_session", "unknown_name"} <= refusals[link].keys() for link in ("hcall", "fabric", "hmc", "device"))
