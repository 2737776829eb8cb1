"""One system for all tests here. Each of them leaves every part running and no window open."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.cluster import eventually
from tests.processes.tcp.system import ROLES, Apart, apart


@pytest.fixture(scope="module")
def cluster() -> None:
    """The system here is another one."""


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    with apart(tmp_path_factory.mktemp("apart")) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_stays_open(system: Apart) -> Iterator[None]:
    yield
    assert system.processes.keys() == ROLES.keys()
    system.wait_until_running()
    eventually(lambda: not system.windows(), "every window of the test is closed")
