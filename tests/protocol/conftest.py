"""The two kinds of sessions, each on a virtual clock of its own, and a folder for real sockets."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocol.bench import LIFELONG, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def lifelong() -> Bench:
    """Sessions that live as long as their connection."""
    return Bench(LIFELONG)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: a socket's path ends at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="vas") as name:
        yield Path(name)
