"""The release: one number, that of the installed package."""

from __future__ import annotations

from importlib import metadata

import pytest
from typer.testing import CliRunner

import vasbus
from vasbus.command import app
from vasbus.words import counted, processors


def test_the_release_is_that_of_the_package() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"vasbus {metadata.version('vasbus')}\n")
    assert vasbus.__version__ == metadata.version("vasbus")


def test_every_public_name_is_there() -> None:
    assert vasbus.__all__ == sorted(vasbus.__all__)
    for name in vasbus.__all__:
        assert getattr(vasbus, name) is not None


@pytest.mark.parametrize(
    ("mode", "cores", "text"), [("dedicated", 1, "1 core"), ("dedicated", 2, "2 cores"), ("shared", 0, "0.50 shared")]
)
def test_one_core_is_not_cores(mode: str, cores: int, text: str) -> None:
    assert processors(mode, cores, 50) == text
    assert (counted(0, "window"), counted(1, "window")) == ("0 windows", "1 window")
