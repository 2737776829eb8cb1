"""`vasbus gzip` and `gunzip` as a user types them, on a cluster of their own, beside the system's gzip."""

from __future__ import annotations

import gzip
import os
import pty
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from protocol.codes import ExitCode
from tests.processes.cluster import Cluster, eventually

WAIT_S = 60
TEXT = b"".join(b"%d lines of code on the wall\n" % (number * number % 9973) for number in range(150_000))
MEMORY_LIMIT_KB = 200_000


@dataclass
class Bench:
    """A folder to work in, and a cluster to work on."""

    folder: Path
    cluster: Path

    def words(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "vasbus", *words, "--dir", str(self.cluster)]

    def run(self, *words: str, feed: bytes = b"", expect: ExitCode = ExitCode.OK) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            self.words(*words), cwd=self.folder, input=feed, capture_output=True, timeout=WAIT_S, check=False
        )
        assert done.returncode == expect, f"{words}: {done.returncode}\n{done.stderr.decode()}"
        return done

    def write(self, name: str, data: bytes = TEXT) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster.start(tmp_path_factory.mktemp("gzip"))
    try:
        yield started
    finally:
        started.down()


@pytest.fixture
def bench(cluster: Cluster, tmp_path: Path) -> Bench:
    return Bench(tmp_path, cluster.folder.path)


def test_a_file_becomes_its_gz_and_comes_back_with_mode_and_time(bench: Bench) -> None:
    path = bench.write("data.txt")
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18 + 5))
    said = bench.run("gzip", "-v", "data.txt").stderr.decode()
    assert "saved, replaced by data.txt.gz" in said
    assert f"lp1: {len(TEXT):,} of {len(TEXT):,} bytes on NX units" in said
    packed = bench.folder / "data.txt.gz"
    assert bench.names() == {"data.txt.gz"}
    assert (packed.stat().st_mode & 0o777, packed.stat().st_mtime_ns) == (0o640, 10**18 + 5)
    assert subprocess.run(["gzip", "-dc", str(packed)], capture_output=True, check=True).stdout == TEXT
    bench.run("gunzip", "data.txt")
    assert bench.names() == {"data.txt"}
    assert path.read_bytes() == TEXT
    assert (path.stat().st_mode & 0o777, path.stat().st_mtime_ns) == (0o640, 10**18 + 5)


def test_what_the_systems_gzip_wrote_is_read(bench: Bench) -> None:
    bench.write("one")
    subprocess.run(["gzip", str(bench.folder / "one")], check=True)
    packed = bench.folder / "one.gz"
    packed.write_bytes(packed.read_bytes() + gzip.compress(b"second") + bytes(4096))
    said = bench.run("gunzip", "-v", "--lpar", "lp2", "one.gz").stderr.decode()
    assert (bench.folder / "one").read_bytes() == TEXT + b"second"
    assert "lp2: " in said


def test_streams_go_through_pipes_both_ways(bench: Bench) -> None:
    packed = bench.run("gzip", feed=TEXT).stdout
    assert subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True).stdout == TEXT
    assert bench.run("gunzip", "-", feed=packed).stdout == TEXT
    assert bench.run("gzip", "-d", "-c", feed=gzip.compress(TEXT)).stdout == TEXT
    assert gzip.decompress(bench.run("gzip", feed=b"").stdout) == b""


def test_files_to_standard_output_stay(bench: Bench) -> None:
    bench.write("a", b"a" * 5000)
    bench.write("b", b"b" * 5000)
    packed = bench.run("gzip", "-c", "a", "b").stdout
    assert gzip.decompress(packed) == b"a" * 5000 + b"b" * 5000
    assert bench.names() == {"a", "b"}


def test_what_should_not_be_touched_is_refused_and_the_rest_is_done(bench: Bench) -> None:
    bench.write("taken")
    bench.write("taken.gz", b"mine")
    bench.write("good")
    (bench.folder / "folder").mkdir()
    (bench.folder / "link").symlink_to("good")
    bench.write("twice").with_name("other").hardlink_to(bench.folder / "twice")
    bench.write("packed.gz", gzip.compress(b""))
    words = ("taken", "folder", "missing", "link", "twice", "packed.gz", "good")
    said = bench.run("gzip", *words, expect=ExitCode.FAILED).stderr.decode()
    assert "taken: taken.gz is there already; -f overwrites it" in said
    assert "folder: a folder; name the files in it" in said
    assert "missing: No such file" in said
    assert "link: a symbolic link" in said
    assert "twice: has 1 other links; -k keeps them" in said
    assert "packed.gz: already ends in .gz" in said
    assert (bench.folder / "taken.gz").read_bytes() == b"mine"
    assert gzip.decompress((bench.folder / "good.gz").read_bytes()) == TEXT
    bench.run("gzip", "-f", "-k", "taken")
    assert gzip.decompress((bench.folder / "taken.gz").read_bytes()) == TEXT
    assert (bench.folder / "taken").exists()
    bench.write("plain.txt")
    assert "ends in none of .gz" in bench.run("gunzip", "plain.txt", expect=ExitCode.FAILED).stderr.decode()


def test_a_flipped_bit_is_reported_and_the_file_stays(bench: Bench) -> None:
    packed = bench.run("gzip", feed=TEXT).stdout
    random = Random(1)
    names = []
    for number, position in enumerate([0, 3, 11, 17, 26, len(packed) - 3, *random.sample(range(len(packed)), 6)]):
        damaged = bytearray(packed)
        damaged[position] ^= 1 << random.randrange(8)
        names.append(bench.write(f"f{number}.gz", bytes(damaged)).name)
    bench.write("whole.gz", packed)
    said = bench.run("gunzip", *names, "whole.gz", expect=ExitCode.FAILED).stderr.decode()
    assert all(f"vasbus: {name}: " in said for name in names)
    assert bench.names() == {*names, "whole"}
    assert (bench.folder / "whole").read_bytes() == TEXT


@pytest.mark.parametrize("writer", ["ours", "theirs"])
def test_nothing_wrong_gets_to_standard_output(bench: Bench, writer: str) -> None:
    """Also of a member that is larger than what is held back in memory, and damaged at its very end."""
    content = TEXT * 6
    packed = bytearray(bench.run("gzip", feed=content).stdout if writer == "ours" else gzip.compress(content, 1))
    packed[-6] ^= 1
    done = bench.run("gunzip", feed=gzip.compress(b"first ") + bytes(packed), expect=ExitCode.FAILED)
    assert done.stdout == (b"first " + content)[: len(done.stdout)]
    assert len(done.stdout) <= 6 + (len(content) >> 20 << 20 if writer == "ours" else 0)
    assert b"standard input: the CRC-32 of a gzip member does not fit" in done.stderr


def test_memory_stays_bounded_on_units_too(bench: Bench) -> None:
    """600 MB of zero bytes in one member, which goes to a unit in resumed pieces."""
    machine = zlib.compressobj(1, zlib.DEFLATED, 31)
    packed = b"".join(machine.compress(bytes(1 << 20)) for _ in range(600)) + machine.flush()
    path = bench.write("zeros.gz", packed)
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen(bench.words("gunzip", "-c", str(path)), stdout=nowhere)
    peaks_kb = []
    while process.poll() is None:
        peaks_kb += peak_memory_kb(process.pid)
        time.sleep(0.02)
    assert process.returncode == 0
    assert len(peaks_kb) > 10
    assert max(peaks_kb) < MEMORY_LIMIT_KB


def peak_memory_kb(pid: int) -> list[int]:
    """The most that a process has had in memory so far; nothing once it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith("VmHWM:")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_leaves_nothing_behind(bench: Bench, number: signal.Signals) -> None:
    bench.write("big", os.urandom(1 << 20) * 200)
    process = subprocess.Popen(bench.words("gzip", "big"), cwd=bench.folder, stderr=subprocess.PIPE)
    eventually(lambda: any(name.startswith(".big.gz.") for name in bench.names()), "the output has been begun")
    process.send_signal(number)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 128 + number
    assert bench.names() == {"big"}


def test_a_background_job_that_ignores_ctrl_c_ends_on_sigterm_alone(bench: Bench) -> None:
    bench.write("big", os.urandom(1 << 20) * 200)
    process = subprocess.Popen(
        bench.words("gzip", "big"),
        cwd=bench.folder,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    eventually(lambda: any(name.startswith(".big.gz.") for name in bench.names()), "the output has been begun")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=WAIT_S)
    assert process.returncode == 128 + signal.SIGTERM
    assert bench.names() == {"big"}


@pytest.mark.parametrize(
    ("closed", "words"),
    [("<&-", "standard input: it is closed"), (">&-", "standard output is closed")],
    ids=["input", "output"],
)
def test_a_closed_standard_stream_is_told_in_one_line(bench: Bench, closed: str, words: str) -> None:
    command = f"{shlex.join(bench.words('gzip', '-f'))} {closed}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=WAIT_S)
    assert ended.returncode == ExitCode.FAILED
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_terminal_gets_a_bar_and_no_compressed_data(bench: Bench) -> None:
    bench.write("data", TEXT * 10)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        bench.words("gzip", "data", "-"), cwd=bench.folder, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = read_all(master)
    assert process.wait(WAIT_S) == ExitCode.FAILED
    assert "━" in shown
    assert "standard input: compressed data does not go to a terminal" in shown
    assert "bytes on NX units" in shown
    assert bench.names() == {"data.gz"}


def test_without_a_partition_to_use_it_says_so(bench: Bench) -> None:
    bench.write("data")
    said = bench.run("gzip", "--lpar", "lp9", "data", expect=ExitCode.FAILED).stderr.decode()
    assert "no partition 'lp9'; there are lp1 (running), lp2 (running), lp3 (running)" in said


def read_all(descriptor: int) -> str:
    """Everything that a terminal is shown until its program ends."""
    shown = bytearray()
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            data = os.read(descriptor, 65_536)
        except OSError:
            # EIO: the last program has closed the terminal.
            break
        shown += data
    os.close(descriptor)
    return shown.decode(errors="replace")


def test_the_system_has_a_gzip_to_compare_with() -> None:
    assert shutil.which("gzip")
