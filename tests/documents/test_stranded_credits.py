"""The example of stranded credits in docs/differences.md prints what the page says, on a real cluster."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from protocol.system import ReopenPolicy
from tests.processes.cluster import Cluster

ROOT = Path(__file__).parents[2]
RUN_WAIT_S = 60


def blocks(language: str) -> list[str]:
    """The section's blocks of code in this language."""
    section = (ROOT / "docs" / "differences.md").read_text().split("## Stranded credits\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def sample_system(policy: ReopenPolicy) -> str:
    text = (ROOT / "deploy" / "system.toml").read_text()
    assert text.count('reopen = "kernel"') == 1
    return text.replace('reopen = "kernel"', f'reopen = "{policy}"')


@pytest.mark.parametrize(("policy", "output"), [(ReopenPolicy.KERNEL, 0), (ReopenPolicy.EAGER, 1)])
def test_the_example_of_stranded_credits_prints_what_the_page_says(
    policy: ReopenPolicy, output: int, tmp_path: Path
) -> None:
    cluster = Cluster.start(tmp_path, sample_system(policy))
    try:
        (script,) = blocks("python")
        environment = {**os.environ, "VASBUS_DIR": str(tmp_path / "cluster")}
        run = [sys.executable, "-c", script]
        done = subprocess.run(run, capture_output=True, text=True, timeout=RUN_WAIT_S, env=environment, cwd=ROOT)
    finally:
        cluster.down()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == blocks("text")[output]
