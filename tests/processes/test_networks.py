"""Processes that are reached at another endpoint on each network: a client is handed the one of its own."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cluster import ClusterError
from hmc.connection import Console
from lpar.client import Lpar, NxGzip, Request
from protocol.codes import FunctionCode
from protocol.network import NETWORK_VARIABLE
from protocol.wire import Envelope
from tests.processes.cluster import WAIT_S
from vasbus import aio
from vasbus.command import app
from vasbus.health.checks import health

SYSTEM = """
[system]
name = "networked"

[[chip]]
number = 0
unit = "nx0"
cores = 2

[[lpar]]
name = "lp1"
cores = 1

[[lpar]]
name = "lp2"
cores = 1
"""
"""lp2 is never started."""
DATA = b"the same script from both sides " * 2_000
SIDES = ("inside", "host")
LINKS = {"hypervisor": "telemetry", "nx0": "paste", "lp1": "device"}
"""What each process advertises. A partition's folder name for a link is NAME.LINK."""


@dataclass(frozen=True)
class Networks:
    """The running system. On `inside` its sockets are where they are, on `host` behind links to them."""

    run: Path

    def at(self, side: str, name: str, link: str) -> str:
        return f"ipc://{self.run}/{side if side == 'host' else ''}{name}.{link}"

    @property
    def hmc(self) -> str:
        return self.at("inside", "hypervisor", "hmc")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Networks]:
    folder = tmp_path_factory.mktemp("n")
    (folder / "system.toml").write_text(SYSTEM)
    found = Networks(folder / "run")
    started = []
    try:
        for role, name in (("hypervisor", ""), ("nxunit", "nx0"), ("lpar", "lp1")):
            owner = name or "hypervisor"
            link = LINKS[owner]
            words = [role, *([name] if name else ["--ledger", "ledger"]), "--system", "system.toml", "--runtime", "run"]
            words += [f"--advertise={side}={found.at(side, owner, link)}" for side in SIDES]
            command = [sys.executable, "-m", "vasbus", "serve", *words, "--metrics=off"]
            with (folder / f"{owner}.log").open("wb") as log:
                started.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
        for role, owner in (("hypervisor", "hypervisor"), ("nxunit", "nx0"), ("lpar", "lp1")):
            link = LINKS[owner]
            health(role, found.at("inside", owner, link if owner != "hypervisor" else "hmc"), None, WAIT_S)
            (found.run / f"host{owner}.{link}").symlink_to(found.run / f"{owner}.{link}")
        yield found
    finally:
        for process in started:
            process.kill()
            process.wait()


def run(networks: Networks, *words: str, side: str = "") -> Result:
    environment = {NETWORK_VARIABLE: side, "VASBUS_HMC": networks.hmc, "VASBUS_KEYS": ""}
    return CliRunner().invoke(app, list(words), env=environment)


@pytest.mark.parametrize("side", SIDES)
def test_the_same_script_pastes_at_the_endpoint_of_its_own_network(
    networks: Networks, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NETWORK_VARIABLE, side)
    connections: set[str] = set()

    def note(_direction: str, connection: str, _envelope: Envelope) -> None:
        connections.add(connection)

    with Lpar(networks.at(side, "lp1", "device"), on_message=note) as lpar, NxGzip(lpar) as nx:
        assert gzip.decompress(nx.compress(DATA)) == DATA
        assert nx.statistics().compress.nx_bytes == len(DATA)
    assert connections == {"device", f"paste:{networks.at(side, 'nx0', 'paste')}"}


def test_a_network_that_is_given_counts_before_that_of_the_environment(
    networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NETWORK_VARIABLE, "nowhere")

    async def compressed(endpoint: str) -> bytes:
        async with aio.Lpar(endpoint, network="host") as lpar, aio.NxGzip(lpar) as nx:
            packed = await nx.compress(DATA)
            assert nx.statistics().compress.nx_bytes == len(DATA)
            return bytes(packed)

    endpoint = networks.at("inside", "lp1", "device")
    assert gzip.decompress(asyncio.run(compressed(endpoint))) == DATA
    with Lpar(endpoint) as lpar, lpar.open_device() as device:
        device.tx_win_open()
        area = device.mmap()
        with pytest.raises(OSError, match="no endpoint on network 'nowhere'; it has: "):
            area.paste(Request(FunctionCode.COMPRESS_DHT, DATA, target_bytes=len(DATA)))


def test_what_is_no_name_of_a_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NETWORK_VARIABLE, "no network")
    for make in (Lpar, Console, aio.Lpar):
        with pytest.raises(ValueError, match=r"expected the name of a network .* came 'no network'"):
            make("ipc:///nowhere")


@pytest.mark.parametrize("side", SIDES)
def test_the_commands_take_the_network_from_an_option_or_the_environment(
    networks: Networks, side: str, tmp_path: Path
) -> None:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    for by_option, environment in ((["--network", side], "elsewhere"), ([], side)):
        status = json.loads(run(networks, "status", "--json", *by_option, side=environment).stdout)
        assert status["lpars"]["lp1"]["device"] == networks.at(side, "lp1", "device")
        assert status["lpars"]["lp1"]["default_total_credits"] == 20
        assert status["nxunits"]["nx0"]["paste"] == networks.at(side, "nx0", "paste")
        assert run(networks, "endpoint", "nx0", *by_option, side=environment).stdout.strip() == networks.at(
            side, "nx0", "paste"
        )
        text = run(networks, "lpar", "cat", "lp1", "/proc/powerpc/lparcfg", *by_option, side=environment).stdout
        assert "shared_processor_mode=0" in text
        packed = run(networks, "gzip", "-kv", str(path), *by_option, side=environment)
        assert f"{len(DATA):,} of {len(DATA):,} bytes on NX units" in packed.output
        path.with_suffix(".gz").unlink()
        top = json.loads(run(networks, "top", "--once", "--json", *by_option, side=environment).stdout)
        assert top["lpars"]["lp1"]["kernel"]["default"]["total"] == 20


def test_on_another_network_the_commands_say_which_there_are(networks: Networks) -> None:
    expected = "lp1: no endpoint on network 'local', only on host, inside; --network or VASBUS_NETWORK names"
    for words in (
        ["endpoint", "lp1"], ["lpar", "cat", "lp1", "/proc/powerpc/lparcfg"], ["gzip", "x"], ["gzip", "--lpar=lp1"],
        ["lpar", "write", "lp1", "/x", "y"], ["lpar", "exec", "lp1", "--", "ls"],
    ):  # fmt: skip
        failed = run(networks, *words)
        assert isinstance(failed.exception, ClusterError), words
        assert str(failed.exception).startswith(expected), words
    top = run(networks, "top", "--once")
    assert str(top.exception).startswith("telemetry: no endpoint on network 'local', only on host, inside")
    stopped = run(networks, "lpar", "cat", "lp2", "/x")
    assert str(stopped.exception) == "lp2 is not_activated: `vasbus up` starts what is missing"


def test_status_tells_what_it_could_not_ask_and_does_not_call_it_unreachable(networks: Networks) -> None:
    environment = {**os.environ, NETWORK_VARIABLE: "", "VASBUS_HMC": networks.hmc}
    command = [sys.executable, "-m", "vasbus", "status", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=True)
    lp1 = json.loads(done.stdout)["lpars"]["lp1"]
    assert (lp1["state"], lp1["device"], lp1["default_total_credits"]) == ("running", None, None)
    assert done.stderr.startswith("lp1: no endpoint on network 'local', only on host, inside")
    bad = run(networks, "status", "--network", "a b")
    assert (bad.exit_code, "expected the name of a network" in re.sub(r"[│\s]+", " ", bad.output)) == (2, True)
