"""The tour, as `vasbus demo` runs it, on a small input."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.codes import ExitCode
from tests.command.test_command import Shell
from tests.processes.cluster import SYSTEM

SOURCES = Path(__file__).parent.parent.parent / "lpar"


def test_the_tour_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Shell(tmp_path).run("demo", "--input", str(SOURCES), "--megabytes", "5")
    assert text.splitlines()[-1].startswith("The tour held: 33 checks")
    assert "H_RESOURCE" in text
    with capsys.disabled():
        print(next("\n" + line.strip() for line in text.splitlines() if "removal to the last" in line))


def test_the_tour_ends_with_one_and_a_reason_where_something_is_off(tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(SYSTEM)
    shell = Shell(tmp_path)
    try:
        shell.run("up", "-f", "system.toml")
        endpoint = shell.json("status")["hypervisor"]["hmc"]
        reason = shell.run("demo", "--hmc", endpoint, "--megabytes", "1", expect=ExitCode.FAILED)
        assert "the tour failed: not so: lp2: nr_total_credits is 40 (found 20)" in reason
    finally:
        shell.run("down")


def test_a_folder_without_input_is_refused(tmp_path: Path) -> None:
    assert "no readable file" in Shell(tmp_path).run("demo", "--input", str(tmp_path), expect=ExitCode.FAILED)
