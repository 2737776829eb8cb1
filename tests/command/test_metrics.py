"""`vasbus metrics`, and where the processes serve theirs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.codes import ExitCode
from protocol.session_messages import Refused
from tests.abuse.attacker import Attacker
from tests.command.test_command import Shell
from tests.processes.cluster import SYSTEM

NAMES = {"hypervisor", "lp1", "lp2", "lp3", "nx0", "nx1"}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("metrics")
    (folder / "system.toml").write_text(SYSTEM)
    shell = Shell(folder)
    try:
        shell.run("up", "-f", "system.toml")
        yield shell
    finally:
        shell.run("down")


def test_every_process_serves_its_own_metrics_on_loopback(shell: Shell) -> None:
    status = shell.json("status")
    parts = {"hypervisor": status["hypervisor"], **status["lpars"], **status["nxunits"]}
    urls = {name: part["metrics"] for name, part in parts.items()}
    assert urls.keys() == NAMES
    assert len(set(urls.values())) == len(NAMES)
    assert all(url.startswith("http://127.0.0.1:") for url in urls.values())


def test_the_page_of_one_process_is_printed_as_prometheus_reads_it(shell: Shell) -> None:
    page = shell.run("metrics", "nx0")
    assert page.startswith("# HELP ")
    assert 'vasbus_messages_total{direction="sent",link="fabric",type="hello"} ' in page
    assert "vasbus_nx_contexts" in page
    every = shell.run("metrics")
    assert all(f"# {name}: http://127.0.0.1:" in every for name in NAMES)
    assert 'vasbus_credits_target{lpar="lp1",type="default"} 40.0' in every


def test_samples_are_printed_for_programs(shell: Shell) -> None:
    hypervisor = shell.json("metrics", "hypervisor")["hypervisor"]
    (build,) = [sample for sample in hypervisor["samples"] if sample["name"] == "vasbus_build_info"]
    assert build["value"] == 1
    assert build["labels"].keys() == {"version", "wire_version"}


def test_a_name_without_metrics_is_refused_with_those_there_are(shell: Shell) -> None:
    text = shell.run("metrics", "lp9", expect=ExitCode.FAILED)
    assert "no metrics of 'lp9'; there are those of hypervisor, lp1" in text


def test_a_port_in_use_ends_the_process_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        words = ("--system", "system.toml", "--runtime", str(tmp_path / "run"), "--metrics", place)
        text = Shell(tmp_path).run("serve", "nxunit", "nx0", *words, expect=ExitCode.ADDRESS_IN_USE)
    assert " ".join(text.split()).startswith(
        f"vasbus: metrics: port {place[10:]} of 127.0.0.1 is in use: choose another"
    )


def test_what_is_no_address_is_a_wrong_command_line(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    words = ("--system", "system.toml", "--runtime", str(tmp_path / "run"), "--metrics", "9100")
    text = Shell(tmp_path).run("serve", "nxunit", "nx0", *words, expect=ExitCode.USAGE)
    assert "expected HOST:PORT" in " ".join(text.split())


@pytest.mark.parametrize("address", ["off", "127.0.0.1:0"])
def test_metrics_are_served_only_where_they_are_wanted(tmp_path: Path, address: str) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    words = ["lpar", "lp1", "--system", "system.toml", "--runtime", str(tmp_path / "run"), "--metrics", address]
    command = [sys.executable, "-m", "vasbus", "serve", *words]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        with Attacker("device", f"ipc://{tmp_path}/run/lp1.device") as stranger:
            assert isinstance(stranger.ask(b""), Refused), "it listens"
        if address != "off":
            line = json.loads(process.stderr.readline())
            assert (line["event"], line["lpar"]) == ("metrics_served", "lp1")
            assert (tmp_path / "run" / "lp1.metrics").read_text() == line["url"] + "\n"
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert "metrics_served" not in said
    assert not (tmp_path / "run" / "lp1.metrics").exists()
