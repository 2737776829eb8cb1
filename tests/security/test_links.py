"""Who gets a connection to what, on real sockets."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hmc.connection import Console, ConsoleUnreachable
from lpar.client import Lpar, NxGzip
from protocol.curve import KeyRefused
from protocol.key_files import init_keys, load_keys
from protocol.keys import Keyring, KeysError, Principal, principals_of
from protocol.session_messages import Welcome
from tests.failures.rows import failure
from tests.security.stranger import Stranger, beyond_its_role
from tests.security.system import Secured

Figure = Callable[[str, float, str], None]
DENIAL_S = 15.0


def foreign_keys(system: Secured, folder: Path, owner: str) -> Keyring:
    """A key pair that another system made for a principal of the same name, with this system's public keys."""
    init_keys(folder, principals_of(system.settings))
    ours = system.keyring(owner)
    theirs = load_keys(folder).keyring(ours.owner)
    return Keyring(ours.owner, theirs.pair, ours.public)


def test_with_keys_a_client_opens_a_window_and_compresses_through_an_nx_unit(system: Secured) -> None:
    with Lpar(system.device["lp1"], keys=system.keyring("client:lp1")) as lpar, NxGzip(lpar, small_bytes=0) as nx:
        packed = nx.compress(b"a secured bus " * 10_000)
        assert gzip.decompress(packed) == b"a secured bus " * 10_000
        assert nx.statistics().compress.nx_bytes == 140_000


@failure(
    "security",
    "a process without a key dials a tcp endpoint",
    seen="No connection to any of the links comes about; its own call says that the endpoint wants a key.",
    lasts="Until it has a key.",
    kept="Everything: what it sent was never read.",
)
def test_no_tcp_endpoint_takes_a_connection_without_a_key(system: Secured, figure: Figure) -> None:
    began = time.monotonic()
    for link, endpoint in system.every_endpoint.values():
        with Stranger(link, endpoint, None) as stranger, pytest.raises(KeyRefused, match="vasbus keys"):
            stranger.knock(DENIAL_S)
    each_ms = (time.monotonic() - began) * 1000 / len(system.every_endpoint)
    figure("time until a process without a key is told", each_ms, "ms")


def test_a_client_without_a_key_is_told_to_get_one(system: Secured) -> None:
    with pytest.raises(PermissionError, match="vasbus keys"):
        Lpar(system.device["lp1"], timeout=DENIAL_S)
    with pytest.raises(ConsoleUnreachable, match="vasbus keys"), Console(system.links["hmc"]) as console:
        console.system(DENIAL_S)


@failure(
    "security",
    "a process comes with a key that this system did not make, or made for another link",
    seen="No connection comes about; its call ends with what key was refused, and the listener logs `key_refused`.",
    lasts="Until it has the right key.",
    kept="Everything: what it sent was never read.",
)
def test_a_key_of_another_system_is_refused_at_every_endpoint(system: Secured, tmp_path: Path) -> None:
    dialler = {"hcall": "lpar:lp1", "fabric": "nx:nx0", "hmc": "hmc", "telemetry": "hmc", "paste": "client:lp1"}
    for name, (link, endpoint) in system.every_endpoint.items():
        owner = f"client:{name}" if link == "device" else dialler[link]
        keyring = foreign_keys(system, tmp_path / name, owner)
        listener = name if link == "paste" else ""
        with Stranger(link, endpoint, keyring, listener) as stranger, pytest.raises(KeyRefused, match=owner):
            stranger.hear(Welcome, DENIAL_S)


@pytest.mark.parametrize(
    ("link", "name", "owner"),
    [
        ("hcall", "hcall", "nx:nx0"), ("hcall", "hcall", "client:lp1"), ("hcall", "hcall", "hmc"),
        ("fabric", "fabric", "lpar:lp1"), ("fabric", "fabric", "client:lp1"), ("hmc", "hmc", "lpar:lp1"),
        ("hmc", "hmc", "client:lp1"), ("telemetry", "telemetry", "client:lp1"), ("telemetry", "telemetry", "chaos"),
        ("device", "lp1", "client:lp2"), ("device", "lp1", "lpar:lp1"), ("device", "lp1", "hmc"),
        ("paste", "nx0", "lpar:lp1"), ("paste", "nx0", "observer"), ("paste", "nx0", "hypervisor"),
    ],
)  # fmt: skip
def test_a_key_opens_the_links_of_its_role_alone(system: Secured, link: str, name: str, owner: str) -> None:
    endpoint = system.every_endpoint[name][1]
    with (
        Stranger(link, endpoint, beyond_its_role(system, owner, link, name), name) as stranger,
        pytest.raises(KeyRefused),
    ):
        stranger.hear(Welcome, DENIAL_S)


def test_our_own_dialler_does_not_even_try_a_link_that_its_key_is_not_for(system: Secured) -> None:
    with pytest.raises(KeysError, match="not for the hmc link"):
        Stranger("hmc", system.links["hmc"], system.keyring("client:lp1"))
    with pytest.raises(PermissionError, match="nx:nx0"):
        Lpar(system.device["lp1"], keys=system.keyring("nx:nx0"), timeout=DENIAL_S)


def test_a_listener_with_another_key_than_the_expected_is_not_talked_to(system: Secured) -> None:
    keyring = system.keyring("client:lp1")
    public = {**keyring.public, Principal.parse("lpar:lp1"): keyring.public[Principal.parse("lpar:lp2")]}
    with pytest.raises(PermissionError, match="breaks off every handshake"):
        Lpar(system.device["lp1"], keys=Keyring(keyring.owner, keyring.pair, public), timeout=DENIAL_S)
