"""The two kinds of sessions, each on a virtual clock of its own."""

from __future__ import annotations

import pytest

from tests.protocol.bench import LIFELONG, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def lifelong() -> Bench:
    """Sessions that live as long as their connection."""
    return Bench(LIFELONG)
