"""One compose project for the tests of this folder. They need an engine and are run by `make compose-test`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.compose.project import Project, docker
from tests.conftest import Figure

Timed = Callable[[str, float, Callable[[], object]], None]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Built, started, healthy; gone afterwards, whatever has become of it."""
    made = Project(tmp_path_factory.mktemp("compose"))
    made.compose("build", "--quiet")
    try:
        made.up()
        yield made
    finally:
        made.down()
        assert_nothing_left(made)


def assert_nothing_left(made: Project) -> None:
    for kind, words in (
        ("containers", ("ps", "--all")),
        ("volumes", ("volume", "ls")),
        ("networks", ("network", "ls")),
    ):
        left = docker(*words, "--quiet", "--filter", f"label=com.docker.compose.project={made.name}").split()
        assert not left, f"{kind} are left behind: {left}"


@pytest.fixture
def whole(project: Project) -> Project:
    """The project with its three partitions and two units at work, and none of the replicas of another test."""
    project.up("--scale", "lpar=0")
    return project


@pytest.fixture
def timed(figure: Figure) -> Timed:
    """Print how long something took; it may take five times as long as it should."""

    def measure(what: str, should_s: float, act: Callable[[], object]) -> None:
        began = time.monotonic()
        act()
        took_s = time.monotonic() - began
        figure(what, took_s, "s")
        assert took_s < 5 * should_s, f"{what}: {took_s:.1f} s, expected {should_s} s"

    return measure
