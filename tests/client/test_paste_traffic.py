"""Paste traffic by itself: what comes back from a unit, bounded queues and connections, sizes of a request."""

from __future__ import annotations

import errno

import pytest

from lpar.client import (
    MessageRefused,
    Request,
)
from lpar.client.paste_links import LINKS_LIMIT, UNANSWERED_LIMIT
from lpar.client.pastes import PasteTraffic
from lpar.client.timers import Timers
from protocol.codes import FunctionCode
from protocol.effects import Dial, Effects, Hangup
from protocol.message import PasteAddress
from protocol.paste_messages import Paste, PasteAccepted
from protocol.refusals import RefusalCode
from protocol.session_messages import Refused
from protocol.wire import Envelope, refuse

DATA = b"window credit " * 400
REQUEST = Request(FunctionCode.COMPRESS_DHT, DATA, 8192)


def address(number: int) -> PasteAddress:
    return PasteAddress(
        address=number << 16,
        unit=f"nx{number}",
        endpoints={"local": f"ipc://nx{number}"},
        window_id=number,
        token=number.to_bytes(16, "big"),
    )


class Traffic:
    """Paste traffic by itself, with nobody at the other end."""

    def __init__(self, kernel: str = "ipc://lp1") -> None:
        self.effects = Effects()
        self.timers = Timers()
        self.traffic = PasteTraffic("local", kernel, self.effects, self.timers, lambda _pending: None)

    def sent(self) -> list[Paste]:
        wishes = self.effects.take().transmissions
        bodies = [getattr(wish, "envelope", Envelope(Refused(code=RefusalCode.RETRY))).body for wish in wishes]
        return [body for body in bodies if isinstance(body, Paste)]


def test_a_refusal_of_the_message_itself_carries_its_code() -> None:
    traffic = Traffic()
    pending = traffic.traffic.submit(address(1), REQUEST, 0)
    refusal = refuse(RefusalCode.BODY, "a number", "a text")
    traffic.traffic.receive(pending.key, Envelope(refusal, number=pending.number), 1)
    assert isinstance(pending.failure, MessageRefused)
    assert pending.failure.code is RefusalCode.BODY
    assert "nx1 refused a paste" in str(pending.failure)


@pytest.mark.parametrize(("code", "state"), [(RefusalCode.STALE_TOKEN, "FAULTED"), (RefusalCode.DRAINING, "REFUSED")])
def test_a_stale_token_is_a_fault_and_a_draining_unit_a_busy_one(code: RefusalCode, state: str) -> None:
    traffic = Traffic()
    pending = traffic.traffic.submit(address(1), REQUEST, 0)
    traffic.traffic.receive(pending.key, Envelope(refuse(code, "", "")), 1)
    assert pending.state.name == state


@pytest.mark.parametrize(
    ("kernel", "unit", "taken"),
    [("tcp://lp1:1", "ipc://nx1", False), ("tcp://lp1:1", "inproc://nx1", False), ("tcp://lp1:1", "tcp://nx1:1", True),
     ("ipc://lp1", "ipc://nx1", True), ("ipc://lp1", "tcp://nx1:1", True)],
)  # fmt: skip
def test_who_has_its_partition_over_tcp_pastes_to_no_socket_of_its_own_machine(
    kernel: str, unit: str, taken: bool
) -> None:
    """No key guards that, and the path is one that another machine has named."""
    there = address(1).model_copy(update={"endpoints": {"local": unit}})
    if taken:
        assert not Traffic(kernel).traffic.submit(there, REQUEST, 0).is_settled
        return
    with pytest.raises(OSError, match=f"nx1 is at {unit}: expected tcp") as caught:
        Traffic(kernel).traffic.submit(there, REQUEST, 0)
    assert caught.value.errno == errno.EHOSTUNREACH


def test_answers_to_nobody_are_ignored() -> None:
    traffic = Traffic()
    pending = traffic.traffic.submit(address(1), REQUEST, 0)
    for window_id, number in ((1, 99), (2, pending.number)):
        accepted = PasteAccepted(window_id=window_id, number=number)
        traffic.traffic.receive(pending.key, Envelope(accepted), 1)
    traffic.traffic.receive("paste:ipc://other", Envelope(PasteAccepted(window_id=1, number=pending.number)), 1)
    assert not pending.is_answered


def test_a_connection_carries_few_unanswered_pastes_at_a_time() -> None:
    traffic = Traffic()
    addresses = [
        address(1).model_copy(update={"token": bytes([number]) * 16, "window_id": number}) for number in range(6)
    ]
    pendings = [traffic.traffic.submit(place, REQUEST, 0) for place in addresses]
    assert len(traffic.sent()) == UNANSWERED_LIMIT
    first = pendings[0]
    traffic.traffic.receive(first.key, Envelope(PasteAccepted(window_id=0, number=first.number)), 1)
    traffic.traffic.abandon(pendings[1], 2)
    assert [paste.window_id for paste in traffic.sent()] == [4, 5]


def test_connections_are_bounded_and_the_idlest_is_hung_up() -> None:
    traffic = Traffic()
    for number in range(LINKS_LIMIT + 1):
        pending = traffic.traffic.submit(address(number), REQUEST, number)
        traffic.traffic.receive(pending.key, Envelope(PasteAccepted(window_id=number, number=pending.number)), number)
    wishes = traffic.effects.take().transmissions
    assert [wish.link for wish in wishes if isinstance(wish, Hangup)] == ["paste:ipc://nx0"]
    assert len([wish for wish in wishes if isinstance(wish, Dial)]) == LINKS_LIMIT + 1
    assert len(traffic.traffic.links.by_key) == LINKS_LIMIT


def test_sizes_that_no_message_carries_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="history"):
        Request(0, b"", 1, history=bytes(32_769))
    with pytest.raises(ValueError, match="in one request"):
        Request(0, bytes((4 << 20) + 1), 1)
    with pytest.raises(ValueError, match="target_bytes is a number of 32 bits"):
        Request(0, b"", 1 << 32)
    with pytest.raises(ValueError, match="crc32 is a number of 32 bits"):
        Request(0, b"", 1, crc32=-1)
    with pytest.raises(ValueError, match="a byte"):
        Request(256, b"", 1)
    with pytest.raises(ValueError, match="resume token"):
        Request(0, b"", 1, resume=bytes(17))
