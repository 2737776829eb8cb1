"""What docs/client.md says about the management console from a script, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.processes.cluster import Cluster
from vasbus.command import app

PAGE = Path(__file__).parents[2] / "docs" / "client.md"
HEADING = "## The management console from a script"


def test_the_script_of_the_page_prints_what_the_console_shows(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    section = PAGE.read_text().partition(HEADING)[2]
    script = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(script) == 1
    exec(script[0], {"hmc_endpoint": cluster.folder.addresses().hmc})
    lines = capsys.readouterr().out.splitlines()
    assert "lp1 running [(0, 0, 0), (40, 0, 0)]" in lines
    assert lines[-2:] == ["40 -> 20 closed: ()", "HSCLC016 128"]


def test_endpoints_of_the_processes_are_told(cluster: Cluster) -> None:
    addresses, runner, where = cluster.folder.addresses(), CliRunner(), ["--dir", str(cluster.folder.path)]
    assert runner.invoke(app, ["endpoint", "lp1", *where]).stdout == f"{addresses.device['lp1']}\n"
    assert runner.invoke(app, ["endpoint", "hmc", *where]).stdout == f"{addresses.hmc}\n"
    unknown = runner.invoke(app, ["endpoint", "lp9", *where])
    assert unknown.exit_code != 0
    assert "'lp9' has no endpoint on network 'local'; these have: hmc, lp1" in str(unknown.exception)
