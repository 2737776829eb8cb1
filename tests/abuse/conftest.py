"""One cluster for all the abuse: if one test does harm, the next ones are to see it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.cluster import Cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster."""
    started = Cluster.start(tmp_path_factory.mktemp("abuse"))
    try:
        yield started
    finally:
        started.down()
