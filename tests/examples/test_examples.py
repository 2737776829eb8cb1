"""The same client three times: with the library, with pyzmq and msgpack alone, and in C."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import IO

import pytest

from protocol.link import MEBIBYTE
from tests.examples.conftest import EXAMPLES
from tests.examples.lossy import LossyLinks
from tests.processes.cluster import Cluster, eventually

RUN_WAIT_S = 60
WIRE_LINES_MOST = 120


def source_bytes(length: int) -> bytes:
    """Something that compresses, but not to nothing."""
    chance = Random(length)
    words = [chance.randbytes(chance.randint(2, 12)) for _ in range(2000)]
    return b"".join(chance.choices(words, k=length // 6))[:length].ljust(length, b"-")


def endpoint(cluster: Cluster, lpar: str) -> str:
    return cluster.folder.addresses().device[lpar]


def unpacked(path: Path) -> bytes:
    """What the system's gzip makes of a file."""
    return subprocess.run(["gzip", "-dc", path], check=True, capture_output=True).stdout


def run(example: list[str], device: str, source: Path, target: Path) -> list[str]:
    done = subprocess.run([*example, device, source, target], capture_output=True, text=True, timeout=RUN_WAIT_S)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_a_file_is_compressed_by_the_nx(example: list[str], cluster: Cluster, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target.gz"
    source.write_bytes(source_bytes(2 * MEBIBYTE + 12_345))
    lines = run(example, endpoint(cluster, "lp1"), source, target)
    assert lines[0] == "window open"
    parts = [re.fullmatch(r"(\d+) -> (\d+) bytes by nx", line) for line in lines[1:]]
    assert [int(part[1]) for part in parts if part] == [MEBIBYTE, MEBIBYTE, 12_345]
    assert sum(int(part[2]) for part in parts if part) == target.stat().st_size < source.stat().st_size
    assert unpacked(target) == source.read_bytes()
    eventually(lambda: not cluster.windows("lp1"), "its window is closed")


@contextmanager
def fed(example: list[str], device: str, folder: Path) -> Iterator[tuple[IO[bytes], IO[str]]]:
    """An example that has opened its window and waits for input: where to write that, and what it prints."""
    os.mkfifo(folder / "source")
    command = [*example, device, str(folder / "source"), str(folder / "target.gz")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "window open\n"
            with open(folder / "source", "wb") as pipe:
                yield pipe, process.stdout
            assert process.wait(RUN_WAIT_S) == 0
        finally:
            process.kill()


def test_a_window_without_its_credit_falls_back_to_zlib_and_comes_back(
    example: list[str], cluster: Cluster, tmp_path: Path
) -> None:
    part = source_bytes(MEBIBYTE)
    with cluster.lpar("lp3") as lp3, cluster.console() as console:
        oldest = lp3.open_window()
        with fed(example, endpoint(cluster, "lp3"), tmp_path) as (pipe, printed):
            assert len(console.set_entitlement("lp3", 5).closed) == 1
            pipe.write(part)
            assert re.fullmatch(rf"{MEBIBYTE} -> \d+ bytes by zlib \(window_suspended\)\n", printed.readline())
            assert len(console.set_entitlement("lp3", 50).reopened) == 1
            pipe.write(part)
            assert re.fullmatch(rf"{MEBIBYTE} -> \d+ bytes by nx\n", printed.readline())
        oldest.close()
    assert unpacked(tmp_path / "target.gz") == 2 * part
    eventually(lambda: not cluster.windows("lp3"), "its windows are closed")


def test_lost_messages_and_a_dead_connection_cost_time_and_nothing_else(
    example: list[str], cluster: Cluster, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "target.gz"
    source.write_bytes(source_bytes(200_000))
    losses = {"hello", "open_device", "window_opened", "paste", "paste_completed", "bye_done"}
    with (
        tempfile.TemporaryDirectory() as folder,
        LossyLinks(Path(folder), endpoint(cluster, "lp2"), losses, deaf_at="mmap") as links,
    ):
        lines = run(example, links.device, source, target)
    assert links.lost == losses
    assert len(links.deaf) == 1
    assert lines[1].endswith(" bytes by nx")
    assert unpacked(target) == source.read_bytes()
    eventually(lambda: not cluster.windows("lp2"), "its one window is closed")


def test_what_the_kernel_refuses_is_said_and_ends_the_example(
    example: list[str], cluster: Cluster, tmp_path: Path
) -> None:
    with cluster.lpar("lp3") as lp3:
        windows = [lp3.open_window() for _ in range(10)]
        (tmp_path / "source").write_bytes(b"data")
        command = [*example, endpoint(cluster, "lp3"), str(tmp_path / "source"), str(tmp_path / "target.gz")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_WAIT_S)
        for window in windows:
            window.close()
    assert done.returncode == 1
    assert "no_credit" in done.stderr or "no hcall was made" in done.stderr
    assert not (tmp_path / "target.gz").exists()


@pytest.mark.parametrize("name", ["compress_file.py", "compress_file_wire.py"])
def test_an_example_in_python_is_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < WIRE_LINES_MOST


def test_the_example_of_the_wire_knows_nothing_of_ours() -> None:
    imports = re.findall(r"^(?:import|from) (\w+)", (EXAMPLES / "compress_file_wire.py").read_text(), re.MULTILINE)
    assert {"msgpack", "zmq"} <= set(imports) <= {"msgpack", "zmq", "os", "sys", "time", "typing", "zlib"}
