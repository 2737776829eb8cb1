"""The unit most tests begin with."""

from __future__ import annotations

import pytest

from tests.nxunit.bench import Bench


@pytest.fixture
def bench() -> Bench:
    """A unit with the windows 1 and 2."""
    bench = Bench()
    bench.program(1)
    bench.program(2)
    return bench
