"""A world and a process in it for every test that asks for them."""

from __future__ import annotations

import pytest

from lpar.client import Lpar
from tests.client.world import World


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def lpar(world: World) -> Lpar:
    return world.lpar()
