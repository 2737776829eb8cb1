"""One cluster for all the examples, and each of them as a command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.cluster import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"
C_HEADERS = {"zmq.h": "libzmq3-dev", "msgpack.h": "libmsgpack-dev", "zlib.h": "zlib1g-dev"}
REQUIRE_C = "VASBUS_REQUIRE_C_EXAMPLE"


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster.start(tmp_path_factory.mktemp("examples"))
    try:
        yield started
    finally:
        started.down()


@pytest.fixture(scope="package")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The C example. Skipped where a header is missing, unless the environment says that it has to be there."""
    missing = _missing_packages()
    if missing and not os.environ.get(REQUIRE_C):
        pytest.skip(f"the C example is NOT tested: as root, apt-get install {' '.join(missing)}")
    assert not missing, f"apt-get install {' '.join(missing)}"
    program = tmp_path_factory.mktemp("c") / "compress_file"
    warnings = ("-O2", "-Wall", "-Wextra", "-Werror")
    libraries = ("-lzmq", f"-l{_msgpack_library()}", "-lz")
    subprocess.run(["gcc", *warnings, "-o", program, EXAMPLES / "compress_file.c", *libraries], check=True)
    return [str(program)]


def _missing_packages() -> list[str]:
    if shutil.which("gcc") is None:
        return ["gcc", "libc6-dev", *C_HEADERS.values()]
    return [package for header, package in C_HEADERS.items() if not _preprocesses(header)]


def _preprocesses(header: str) -> bool:
    command = ["gcc", "-E", "-x", "c", "-o", os.devnull, "-"]
    return not subprocess.run(command, input=f"#include <{header}>\n", text=True, capture_output=True).returncode


def _msgpack_library() -> str:
    """Its name changed with version 6; gcc prints a path for a library that is there, otherwise the bare name."""
    found = subprocess.run(["gcc", "-print-file-name=libmsgpack-c.so"], check=True, capture_output=True, text=True)
    return "msgpack-c" if "/" in found.stdout else "msgpackc"


@pytest.fixture(params=["library", "wire", "c"])
def example(request: pytest.FixtureRequest) -> list[str]:
    """The command of one of the examples."""
    if request.param == "c":
        command: list[str] = request.getfixturevalue("compiled")
        return command
    name = {"library": "compress_file.py", "wire": "compress_file_wire.py"}[request.param]
    return [sys.executable, str(EXAMPLES / name)]
