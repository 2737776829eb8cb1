"""Who can reach an endpoint, and where a process may listen without keys."""

from __future__ import annotations

import socket
import time
from contextlib import closing

import pytest
import zmq

from hmc.observer import Observer
from protocol.effects import DIALLED
from protocol.endpoint import Security, endpoint_complaint, is_ipv6, is_loopback, is_wildcard
from protocol.key_files import make_pair
from protocol.key_source import KeySource
from protocol.keys import Keyring, KeyRole, Principal
from protocol.link import HCALL
from protocol.publisher import Publisher
from protocol.socket import NodeSocket
from protocol.telemetry_messages import PeerMoved
from protocol.wire import Envelope, encode
from tests.security.system import free_port

LOOPBACK = [
    "tcp://127.0.0.1:1",
    "tcp://127.8.9.1:1",
    "tcp://localhost:1",
    "tcp://LOCALHOST:1",
    "tcp://[::1]:1",
    "tcp://lo:1",
]
EXPOSED = [
    "tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://192.0.2.1:1", "tcp://eth0:1", "tcp://localhost.example:1",
    "tcp://127.0.0.1.example:1", "tcp://host:1", "tcp://[2001:db8::1]:1", "tcp://:1",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", LOOPBACK)
def test_loopback_is_for_this_machine_alone(endpoint: str) -> None:
    assert is_loopback(endpoint)
    assert Security().complaint([endpoint]) is None


@pytest.mark.parametrize("endpoint", EXPOSED)
def test_without_keys_nothing_else_is_listened_at_unless_insecure_is_said(endpoint: str) -> None:
    assert not is_loopback(endpoint)
    complaint = Security().complaint(["ipc:///run/x", "tcp://127.0.0.1:1", endpoint])
    assert complaint is not None
    for advice in (endpoint, "--keys", "--insecure", "127.0.0.1"):
        assert advice in complaint
    assert Security(insecure=True).complaint([endpoint]) is None
    keyring = Keyring(Principal(KeyRole.HYPERVISOR), make_pair(), {})
    assert Security(KeySource(keyring)).complaint([endpoint]) is None


@pytest.mark.parametrize("endpoint", ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::]:1"])
def test_every_address_is_an_address_that_nobody_can_dial(endpoint: str) -> None:
    assert is_wildcard(endpoint)
    assert not is_wildcard("tcp://127.0.0.1:1")
    assert not is_wildcard("ipc://*")


@pytest.mark.parametrize("endpoint", ["", "ipc://", "tcp://", "tcp://host", "tcp://:1", "tcp://host:0", "tcp://host:*",
                                      "tcp://host:65536", "udp://host:1", "inproc://x", "host:1"])  # fmt: skip
def test_what_is_no_endpoint_is_told_what_one_looks_like(endpoint: str) -> None:
    assert "expected" in (endpoint_complaint(endpoint) or "")


@pytest.mark.parametrize("endpoint", ["ipc:///run/x", "tcp://host:1", "tcp://[::1]:65535"])
def test_an_endpoint_is_one(endpoint: str) -> None:
    assert endpoint_complaint(endpoint) is None


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")
def test_a_link_and_telemetry_are_reached_at_an_ipv6_address() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    endpoint, published = (f"tcp://[::1]:{free_port()}" for _ in range(2))
    listening, dialling = (make(context, HCALL, endpoint) for make in (NodeSocket.listen, NodeSocket.dial))
    with closing(listening), closing(dialling):
        dialling.send(DIALLED, [b"hello"])
        assert listening.zmq.poll(20_000)
    with closing(Publisher(context, published, None)) as publisher, Observer(published) as observer:
        end_s = time.monotonic() + 20
        moved = PeerMoved(at_us=1, role="lpar", name="lp1", epoch=1, step="opened")
        while not list(observer.messages(0.05)):
            assert time.monotonic() < end_s
            publisher.send(encode(Envelope(moved, number=1)))
    context.term()


def test_brackets_make_an_ipv6_address() -> None:
    assert is_ipv6("tcp://[::1]:1")
    assert not is_ipv6("tcp://127.0.0.1:1")
    assert not is_ipv6("ipc://[x]")
