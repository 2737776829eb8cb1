"""One secured system for all tests that need real sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.system import Secured, secured


@pytest.fixture(scope="package")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(tmp_path_factory.mktemp("secured")) as running:
        yield running
