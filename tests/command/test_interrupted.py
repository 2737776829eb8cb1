"""Ctrl-C while a command loads its modules, and as soon as it does something: no traceback, and a known exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from protocol.codes import ExitCode
from tests.processes.cluster import SYSTEM, WAIT_S, eventually

NOTHING_STARTED = "vasbus: asked to stop before anything was started\n"


def loads(library: str) -> Callable[[int], bool]:
    """Whether a process has loaded a library by now."""
    return lambda pid: library in Path(f"/proc/{pid}/maps").read_text()


def ended(words: Sequence[str], moment: Callable[[int], bool], number: signal.Signals) -> tuple[int, str]:
    """The exit code and the output of a command that gets a signal at a moment."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vasbus", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        eventually(lambda: moment(process.pid), "the moment has come")
        process.send_signal(number)
        output, _ = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    return process.returncode, output


MOMENTS = [loads("pydantic_core"), loads("libzmq"), loads("sqlite3")]
"""Libraries that come one after the other."""
NOBODY = ["status", "--hmc", "tcp://127.0.0.1:1"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("words", [NOBODY, ["--keys", "up", *NOBODY]])
def test_ctrl_c_while_a_command_loads_ends_it_without_a_word(words: list[str], moment: Callable[[int], bool]) -> None:
    assert ended(words, moment, signal.SIGINT) == (128 + signal.SIGINT, "")


def test_ctrl_c_ends_a_command_that_does_something_with_the_same_code(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "lp1.log").write_text("a line\n")
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "vasbus", "logs", "--follow", "--dir", str(tmp_path)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert "a line" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, output, errors) == (128 + signal.SIGINT, "", "")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [[], ["--keys", "none"]])
def test_up_that_is_asked_to_stop_while_it_loads_ends_as_it_promises(
    tmp_path: Path, options: list[str], number: signal.Signals, moment: Callable[[int], bool]
) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    folder = tmp_path / "cluster"
    words = [*options, "up", "--dir", str(folder), "--file", str(tmp_path / "system.toml")]
    code, output = ended(words, moment, number)
    assert (code, output) == (ExitCode.INTERRUPTED, NOTHING_STARTED)
    assert not folder.exists(), "nothing was begun"


def test_a_ctrl_c_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vasbus", "fsck", str(tmp_path / "none")], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    with process:
        eventually(lambda: loads("libzmq")(process.pid), "it loads")
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == ExitCode.STORE_FOREIGN
