"""The cluster most tests begin with."""

from __future__ import annotations

import pytest

from tests.hypervisor.cluster import Cluster


@pytest.fixture
def cluster() -> Cluster:
    """Everybody connected: two units, three partitions, a console."""
    return Cluster().start()
