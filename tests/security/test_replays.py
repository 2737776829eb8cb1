"""A session belongs to its connection: what was said on one is worth nothing on another. No sockets."""

from __future__ import annotations

import pytest

from protocol.refusals import RefusalCode
from protocol.session_messages import Beat, Hello
from tests.protocol.bench import Bench, raw
from tests.protocol.words import ANSWER, QUERY, hello, refusals_of, welcome_of


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_hello_again_on_another_connection_before_its_welcome_was_heard_is_welcomed(bench: Bench) -> None:
    """The WELCOME may be lost: then its holder has nothing to show but its incarnation."""
    welcome_of(raw(bench, b"c1", hello()))
    welcome_of(raw(bench, b"c2", hello()))
    assert bench.listener.sessions["lp1"].peer == b"c2"


def test_a_copy_of_a_hello_takes_no_session_whose_holder_has_shown_its_epoch(bench: Bench) -> None:
    welcome = welcome_of(raw(bench, b"c1", hello()))
    raw(bench, b"c1", Beat(sequence=1), epoch=1)
    assert refusals_of(raw(bench, b"c9", hello())) == [RefusalCode.IN_USE]
    assert bench.listener.sessions["lp1"].peer == b"c1"
    welcome_of(raw(bench, b"c1", hello()))
    assert welcome_of(raw(bench, b"c2", hello(epoch=1, secret=welcome.secret))).resumed


def test_nor_one_whose_connection_is_gone(bench: Bench) -> None:
    """Else the copy would end it, as a new incarnation ends that of a dead process."""
    raw(bench, b"c1", hello())
    raw(bench, b"c1", Beat(sequence=1), epoch=1)
    bench.listener.unreachable(b"c1", bench.now_us)
    assert refusals_of(raw(bench, b"c9", hello())) == [RefusalCode.IN_USE]
    assert bench.listener.sessions["lp1"].alive


def test_nor_one_of_which_a_restarted_listener_has_answers(bench: Bench) -> None:
    raw(bench, b"c1", hello())
    raw(bench, b"c1", QUERY, epoch=1, number=1)
    session = bench.listener.sessions["lp1"]
    bench.listener.answer(session, 1, ANSWER)
    bench.lose()
    bench.listener = bench.make_listener()
    bench.listener.restore([session], {"lp1": 1}, bench.now_us)
    assert refusals_of(raw(bench, b"c9", hello())) == [RefusalCode.IN_USE]


def test_a_session_is_resumed_in_its_role_alone(bench: Bench) -> None:
    """So that who may only look cannot go on as who may change, even with that one's secret."""
    welcome = welcome_of(raw(bench, b"c1", hello()))
    other = hello(epoch=1, secret=welcome.secret).model_copy(update={"role": "observer"})
    assert isinstance(other, Hello)
    assert refusals_of(raw(bench, b"c2", other)) == [RefusalCode.SESSION_DEAD]


def test_nor_is_a_hello_in_another_role_the_one_before_its_welcome_was_heard(bench: Bench) -> None:
    welcome_of(raw(bench, b"c1", hello()))
    assert refusals_of(raw(bench, b"c2", hello().model_copy(update={"role": "observer"}))) == [RefusalCode.IN_USE]
    assert bench.listener.sessions["lp1"].peer == b"c1"


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_request_on_a_connection_without_a_session_is_refused_whatever_its_epoch(bench: Bench, epoch: int) -> None:
    raw(bench, b"c1", hello())
    assert refusals_of(raw(bench, b"c9", QUERY, epoch=epoch, number=1)) == [RefusalCode.NO_SESSION]
    assert not bench.listener.sessions["lp1"].callee.answers
