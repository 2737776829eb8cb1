"""Pastes whose messages or whose unit's memory are lost."""

from __future__ import annotations

import zlib

import pytest

from lpar.client import (
    Csb,
    Lpar,
    PasteArea,
    Request,
    RequestLost,
)
from protocol.codes import CompletionCode, FunctionCode
from protocol.paste_messages import Paste
from protocol.wire import Envelope
from tests.client.world import World

DATA = b"window credit " * 400
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, 8192)
REPEAT_US = 500_000


@pytest.fixture
def area(lpar: Lpar) -> PasteArea:
    return lpar.open_window().map()


def numbers(world: World) -> list[int]:
    """The numbers of the pastes that were sent, in order."""
    return [envelope.body.number for envelope in world.sent_of(Paste) if isinstance(envelope.body, Paste)]


def assert_done(csb: Csb) -> None:
    assert csb.code is CompletionCode.OK
    assert zlib.decompress(csb.target, -15) == DATA


def test_an_unanswered_paste_is_repeated_with_the_same_number(world: World, area: PasteArea) -> None:
    world.nx0.swallow_next = world.nx1.swallow_next = 2
    began_us = world.now_us
    assert_done(area.paste(REQUEST).wait())
    assert numbers(world) == [1, 1, 1]
    assert world.now_us - began_us < 2 * REPEAT_US + 10_000


def test_completed_may_come_without_accepted(world: World, area: PasteArea) -> None:
    def forge(_key: str, envelope: Envelope) -> None:
        world.loss = 1.0 if isinstance(envelope.body, Paste) else 0.0

    world.before_delivery = forge
    world.later(10_000, lambda: setattr(world, "loss", 0.0))
    world.later(10_000, lambda: setattr(world, "before_delivery", lambda _key, _envelope: None))
    assert_done(area.paste(REQUEST).wait())
    assert numbers(world) == [1, 1]
    assert world.nx0.executed + world.nx1.executed == 1


def test_a_lost_completion_is_asked_for_again(world: World, area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    world.loss = 1.0
    world.pass_time(10_000)
    world.loss = 0.0
    assert_done(pending.wait())
    assert numbers(world) == [1, 1]


def test_a_request_that_its_unit_forgot_is_lost(world: World, area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    world.nx0.restart()
    world.nx1.restart()
    with pytest.raises(RequestLost):
        pending.wait()


def test_a_unit_that_lost_its_memory_but_has_the_context_does_the_request_anew(world: World, area: PasteArea) -> None:
    pending = area.paste(REQUEST)
    world.nx0.forget_numbers()
    world.nx1.forget_numbers()
    assert_done(pending.wait())
