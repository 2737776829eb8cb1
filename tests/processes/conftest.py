"""One cluster per test module, taken down with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.cluster import Cluster, eventually


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster; every test leaves it with nothing open."""
    started = Cluster.start(tmp_path_factory.mktemp("cluster"))
    try:
        yield started
    finally:
        started.down()


@pytest.fixture(autouse=True)
def _nothing_stays_open(cluster: Cluster) -> Iterator[None]:
    """The next test begins when the windows of this one are gone, those of killed processes too."""
    yield
    eventually(lambda: not cluster.windows(), "every window of the test is closed")
