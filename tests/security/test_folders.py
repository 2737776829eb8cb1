"""Sockets in files are for their user alone: by their folder, or the process does not start."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.codes import ExitCode
from protocol.endpoint import UNGUARDED, Security, is_abstract
from protocol.key_files import make_pair
from protocol.key_source import KeySource
from protocol.keys import Keyring, KeyRole, Principal
from protocol.socket_folder import folder_complaint, folders_complaint
from tests.failures.rows import failure
from tests.security.system import DEADLINE_S, SYSTEM

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o755, 0o777, 0o1777])
def test_a_folder_that_others_can_enter_or_write_to_is_refused_with_its_mode(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    complaint = folder_complaint(tmp_path) or ""
    assert f"{mode:04o}" in complaint
    assert f"chmod 700 {tmp_path}" in complaint
    assert folders_complaint(["tcp://127.0.0.1:1", f"ipc://{tmp_path}/hmc"]) == complaint
    tmp_path.chmod(0o700)
    assert folder_complaint(tmp_path) is None
    assert folders_complaint([f"ipc://{tmp_path}/hmc"]) is None


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert "a folder of your own" in (folder_complaint(tmp_path) or "")


def test_a_folder_that_is_not_there_is_nobodys(tmp_path: Path) -> None:
    assert folder_complaint(tmp_path / "new") is None


def test_a_socket_without_a_file_is_refused_also_with_keys_unless_insecure_is_said() -> None:
    """Linux's abstract sockets have no mode, and CURVE guards tcp alone."""
    keyring = Keyring(Principal(KeyRole.HYPERVISOR), make_pair(), {})
    for security in (UNGUARDED, Security(KeySource(keyring))):
        complaint = security.complaint(["ipc://@hmc"]) or ""
        assert "ipc://@hmc" in complaint
        assert "a path" in complaint
    assert Security(insecure=True).complaint(["ipc://@hmc"]) is None
    assert is_abstract("ipc://@hmc")
    assert not is_abstract("ipc:///run/@hmc")
    assert not is_abstract("tcp://@hmc")


@failure(
    "security",
    "a process is told to have its sockets where others can reach them: a folder with another mode than 0700, "
    "another user's, or an abstract socket",
    seen="It ends at once with exit code 20 and says what to do; `--insecure` lets it.",
    lasts="Until the folder is its own user's alone.",
    kept="Nobody could connect meanwhile.",
)
def test_a_process_does_not_start_with_sockets_that_others_can_reach(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    run, others = tmp_path / "run", tmp_path / "others"
    others.mkdir()
    others.chmod(0o777)
    for runtime, more in (
        (others, []), (run, ["--listen", "device=ipc://@device"]), (run, ["--listen", f"device=ipc://{others}/device"]),
    ):  # fmt: skip
        words = ["serve", "lpar", "lp1", "--system", str(tmp_path / "system.toml"), "--runtime", str(runtime)]
        ended = subprocess.run(
            [sys.executable, "-m", "vasbus", *words, "--metrics", "off", *more], cwd=ROOT, capture_output=True,
            text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert ended.returncode == ExitCode.INSECURE, ended.stderr
        assert "--insecure" in ended.stderr
        assert not list(others.iterdir())
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
