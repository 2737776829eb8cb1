"""What docs/commands.md says about commands on another machine: an endpoint, and the keys that they need."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol.key_files import export_keys
from protocol.keys import Principal
from tests.security.system import Secured
from vasbus.command import app

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def examples() -> list[list[str]]:
    """The words after `vasbus` of each line of the section on another machine."""
    section = PAGE.read_text().partition("\n## On another machine\n")[2].partition("\n## ")[0]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines]


def test_the_examples_on_another_machine_work(system: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").symlink_to(system.folder)
    lines = examples()
    assert [line[2:4] for line in lines[1:]] == [["lpar", "exec"], ["hmc", "exec"]]
    for words in lines:
        words = [system.links["hmc"] if word == "tcp://hypervisor:7103" else word for word in words]
        words = ["secured" if word == "sample" else word for word in words]
        done = CliRunner().invoke(app, words, env={"VASBUS_KEYS": ""})
        assert done.exit_code == 0, (words, done.output, done.exception)
        assert done.stdout, words


def test_a_partitions_command_needs_the_key_of_its_client_too(system: Secured, tmp_path: Path) -> None:
    alone = tmp_path / "hmc.keys"
    export_keys(system.folder, [Principal.parse("hmc")], alone)
    words = ["--keys", str(alone), "lpar", "exec", "lp1", "--hmc", system.links["hmc"], "--", "nxstat"]
    done = CliRunner().invoke(app, words, env={"VASBUS_KEYS": ""})
    assert "expected a secret key of client:lp1" in str(done.exception)
