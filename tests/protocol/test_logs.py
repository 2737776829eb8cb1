"""Log lines as they are written: for people on a terminal, as JSON otherwise, with the same names everywhere."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from protocol.logs import LineLogger

ROOT = Path(__file__).parents[2]
SPEAKER = """
import sys, structlog
from protocol.logs import configure_logs
role, name = sys.argv[1:]
configure_logs("sample", role, name)
log = structlog.get_logger()
log.info("opened", window_id=7, epoch=3)
log.warning("odd", why="red \\x1b[31m text", token=b"\\x00")
log.debug("not shown")
"""


def said(role: str, name: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", SPEAKER, role, name], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_without_a_terminal_each_line_is_json_with_system_role_and_name() -> None:
    first, second = said("nxunit", "nx0")
    assert {key: first[key] for key in ("system", "role", "name", "event", "level")} == {
        "system": "sample", "role": "nxunit", "name": "nx0", "event": "opened", "level": "info",
    }  # fmt: skip
    assert "lpar" not in first
    assert (second["level"], second["why"]) == ("warning", "red \x1b[31m text")
    assert first["timestamp"] < second["timestamp"]


def test_a_window_and_an_epoch_are_called_so_everywhere_and_a_partition_names_itself() -> None:
    first, _ = said("lpar", "lp1")
    assert (first["window"], first["epoch"], first["lpar"]) == (7, 3, "lp1")
    assert "window_id" not in first


def test_on_a_terminal_lines_are_for_people_and_a_peers_text_cannot_steer_it() -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    speaker = subprocess.Popen(
        [sys.executable, "-c", SPEAKER, "lpar", "lp1"], cwd=ROOT, stderr=slave, env=environment, stdout=slave
    )
    os.close(slave)
    assert speaker.wait(30) == 0
    text = os.read(master, 65_536).decode()
    os.close(master)
    assert not text.startswith("{")
    assert "opened" in text
    assert "\\x1b[31m text" in text
    assert "red \x1b[31m" not in text


@pytest.mark.parametrize("gone", ["closed pipe", "full disk"])
def test_lines_that_cannot_be_written_are_counted_and_end_nothing(gone: str) -> None:
    if gone == "full disk":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reading, descriptor = os.pipe()
        os.close(reading)
    logger = LineLogger(descriptor)
    logger.error("lost")
    logger.info("lost too")
    os.close(descriptor)
    assert logger.lost == 2


def test_text_that_is_no_utf8_is_written_all_the_same() -> None:
    reading, writing = os.pipe()
    LineLogger(writing).info("a\udcffb")
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"a\\udcffb\n"
