"""A forwarder that breaks handshakes off while the listener behind it is away."""

from __future__ import annotations

import errno

import pytest

from lpar.client import Lpar, Request
from lpar.client.links import DEVICE_KEY
from protocol.codes import CompletionCode, FunctionCode
from tests.client.world import World

REQUEST = Request(FunctionCode.COMPRESS_DHT, b"behind a forwarder " * 100, 4096)
REFUSED = PermissionError(errno.EACCES, "every handshake is broken off")


def broken_off(world: World, key: str, *, definite: bool = False) -> None:
    """What the driver tells the core when a message finds no connection."""
    world.core.shut_out(key, REFUSED, world.now_us, definite=definite)


def test_a_request_waits_for_a_unit_that_was_reached_before(world: World, lpar: Lpar) -> None:
    window = lpar.open_window()
    assert window.run(REQUEST).code is CompletionCode.OK
    world.before_delivery = lambda key, _envelope: None if key == DEVICE_KEY else broken_off(world, key)
    assert window.run(REQUEST).code is CompletionCode.OK


def test_a_request_to_a_unit_that_was_never_reached_fails_at_once(world: World, lpar: Lpar) -> None:
    window = lpar.open_window()
    world.before_delivery = lambda key, _envelope: None if key == DEVICE_KEY else broken_off(world, key)
    with pytest.raises(PermissionError, match="every handshake is broken off"):
        window.run(REQUEST)


def test_a_unit_that_refuses_the_key_itself_is_believed(world: World, lpar: Lpar) -> None:
    window = lpar.open_window()
    assert window.run(REQUEST).code is CompletionCode.OK
    world.before_delivery = lambda key, _envelope: None if key == DEVICE_KEY else broken_off(world, key, definite=True)
    with pytest.raises(PermissionError, match="every handshake is broken off"):
        window.run(REQUEST)


def test_a_system_call_waits_for_a_kernel_that_was_reached_before(world: World, lpar: Lpar) -> None:
    window = lpar.open_window()
    world.before_delivery = lambda key, _envelope: broken_off(world, key) if key == DEVICE_KEY else None
    window.close()
    assert lpar.is_alive
