"""The `vasbus` command as a user types it, on a cluster of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.codes import ExitCode
from tests.processes.cluster import SYSFS, SYSTEM

COMMAND_WAIT_S = 60


class Shell:
    """Runs `vasbus` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, expect: ExitCode = ExitCode.OK) -> str:
        """Run a command; its output. Fails where the exit code is another."""
        environment = {**os.environ, "COLUMNS": "160", "VASBUS_DIR": str(self.folder / ".vasbus")}
        done = subprocess.run(
            [sys.executable, "-m", "vasbus", *words],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_WAIT_S,
            check=False,
        )
        assert done.returncode == expect, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if expect is ExitCode.OK else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A cluster that `vasbus up` started."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "system.toml").write_text(SYSTEM)
    shell = Shell(folder)
    try:
        shell.run("up", "-f", "system.toml")
        yield shell
    finally:
        shell.run("down")


def test_up_is_safe_to_repeat(shell: Shell) -> None:
    before = shell.json("status")
    after = shell.json("up", "-f", "system.toml")
    assert after["hypervisor"]["pid"] == before["hypervisor"]["pid"]


def test_status_tells_everything_a_script_needs(shell: Shell) -> None:
    status = shell.json("status")
    lp1 = status["lpars"]["lp1"]
    assert lp1["state"] == "running"
    assert lp1["device"].startswith("ipc://")
    counters = [lp1[f"{pool}_{which}_credits"] for pool in ("default", "qos") for which in ("total", "used")]
    assert counters == [40, 0, 0, 0]
    assert status["nxunits"]["nx0"]["paste"].startswith("ipc://")
    assert status["hypervisor"]["hmc"].startswith("ipc://")
    pids = [
        status["hypervisor"]["pid"],
        *(part["pid"] for part in [*status["lpars"].values(), *status["nxunits"].values()]),
    ]
    assert len(set(pids)) == 6
    for pid in pids:
        os.kill(pid, 0)


def test_tables_for_people_name_every_partition(shell: Shell) -> None:
    for command in ("status", "credits"):
        text = shell.run(command)
        assert all(name in text for name in ("lp1", "lp2", "lp3"))
    assert "0 windows" in shell.run("windows", "lp1")
    assert "booted" in shell.run("logs", "lp1")


def test_dlpar_moves_credits_and_refuses_what_the_system_lacks(shell: Shell) -> None:
    applied = shell.json("hmc", "dlpar", "lp1", "--cores", "-1")
    assert (applied["total_before"], applied["total_after"]) == (40, 20)
    refusal = shell.run("hmc", "dlpar", "lp2", "--cores", "+9", expect=ExitCode.FAILED)
    assert "2 available, 1 assigned, 9 additional requested" in refusal
    assert shell.json("hmc", "dlpar", "lp1", "--cores", "+1")["total_after"] == 40


def test_words_that_fit_no_message_are_refused_as_usage(shell: Shell) -> None:
    assert "expected letters, digits" in shell.run("hmc", "dlpar", "", "--cores", "1", expect=ExitCode.USAGE)
    assert "cores: " in shell.run("hmc", "dlpar", "lp1", "--cores", "99999999999", expect=ExitCode.USAGE)
    assert "not text" in shell.run("lpar", "cat", "lp1", "/\udcff", expect=ExitCode.USAGE)
    assert "0 cores change nothing" in shell.run("hmc", "dlpar", "lp1", "--cores", "0", expect=ExitCode.FAILED)


def test_entitlement_and_qos_change_their_partitions(shell: Shell) -> None:
    assert shell.json("hmc", "entitlement", "lp3", "55")["total_after"] == 11
    assert shell.json("hmc", "entitlement", "lp3", "50")["total_after"] == 10
    assert shell.json("hmc", "qos", "lp2", "4")["total_after"] == 4
    assert shell.json("status")["lpars"]["lp2"]["qos_total_credits"] == 4
    shell.run("hmc", "qos", "lp2", "0")
    assert "use `vasbus hmc dlpar`" in shell.run("hmc", "entitlement", "lp1", "50", expect=ExitCode.FAILED)


def test_files_of_a_partition_are_read_and_written(shell: Shell) -> None:
    path = f"{SYSFS}/default_capabilities/nr_total_credits"
    assert shell.run("lpar", "cat", "lp1", path) == "40\n"
    assert "EACCES" in shell.run("lpar", "write", "lp1", path, "50", expect=ExitCode.FAILED)
    assert "ENOENT" in shell.run("lpar", "cat", "lp1", "/etc/passwd", expect=ExitCode.FAILED)
    assert "it has lp1, lp2, lp3" in shell.run("lpar", "cat", "nobody", path, expect=ExitCode.FAILED)


def test_commands_of_the_real_machine_end_with_their_own_exit_code(shell: Shell) -> None:
    assert shell.run("lpar", "exec", "lp3", "drmgr", "-c", "cpu", "-p", "ent_capacity", "-a", "-q", "10") == ""
    assert "capacity=60\n" in shell.run("lpar", "exec", "lp3", "--", "cat", "/proc/powerpc/lparcfg")
    refusal = shell.run(
        "lpar", "exec", "lp3", "drmgr", "-c", "cpu", "-p", "ent_capacity", "-r", "-q", "61", expect=ExitCode.FAILED
    )
    assert "Current value: 3c, asking to remove: 3d" in refusal
    shell.run("hmc", "exec", "--", "chhwres", "-r", "proc", "-m", "test", "-o", "r", "-p", "lp3", "--procunits", "0.1")
    assert shell.run("hmc", "exec", "lshwres", "-r", "accel", "-m", "test", "--level", "sys", "-F", "type") == "gzip\n"
    assert "it has lp1, lp2, lp3" in shell.run("lpar", "exec", "nobody", "--", "ls", expect=ExitCode.FAILED)
    assert "Missing argument" in shell.run("lpar", "exec", "lp1", expect=ExitCode.USAGE)


def test_a_command_without_a_cluster_says_so(tmp_path: Path) -> None:
    stranger = Shell(tmp_path)
    assert "start one with `vasbus up`" in stranger.run("status", expect=ExitCode.FAILED)
    assert "nothing was running" in stranger.run("down")


def test_an_endpoint_where_nobody_listens_is_unreachable(shell: Shell) -> None:
    text = shell.run("status", "--hmc", f"ipc://{shell.folder}/none", expect=ExitCode.UNREACHABLE)
    assert "there is no such socket" in text
    assert "tcp://host:port" in shell.run("status", "--hmc", "nonsense", expect=ExitCode.UNREACHABLE)
    text = shell.run("status", "--hmc", "tcp://127.0.0.1:99999", expect=ExitCode.UNREACHABLE)
    assert "expected a port from 1 to 65535" in text


def test_a_kept_ledger_goes_on_with_its_own_system(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    shell = Shell(tmp_path)
    try:
        shell.run("up", "-f", "system.toml")
        shell.run("hmc", "dlpar", "lp1", "--cores", "-1")
        shell.run("down", "--keep-ledger")
        lpars = shell.json("up")["lpars"]
        assert lpars["lp1"]["cores"] == 1
        (tmp_path / "other.toml").write_text(SYSTEM.replace('"test"', '"other"'))
        assert "belongs to another system" in shell.run("up", "-f", "other.toml", expect=ExitCode.FAILED)
    finally:
        shell.run("down")


def test_a_wrong_system_file_is_refused_with_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(SYSTEM.replace("cores = 3", "coars = 3"))
    assert "wrong.toml:15: chip.0.coars: " in Shell(tmp_path).run("up", "-f", "wrong.toml", expect=ExitCode.SETTINGS)


def test_serve_refuses_a_name_the_system_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    words = ("serve", "lpar", "lp9", "--system", "system.toml", "--runtime", str(tmp_path / "run"))
    assert "no partition 'lp9'" in Shell(tmp_path).run(*words, expect=ExitCode.FAILED)


def test_a_second_process_of_one_name_is_refused(shell: Shell) -> None:
    runtime = shell.json("status")["hypervisor"]["hmc"].removeprefix("ipc://").rpartition("/")[0]
    words = ("serve", "lpar", "lp1", "--system", "system.toml", "--runtime", runtime)
    complaint = shell.run(*words, expect=ExitCode.ADDRESS_IN_USE)
    assert f"ipc://{runtime}/lp1.device: another process listens there" in complaint
    assert complaint.count("ipc://") == 1
