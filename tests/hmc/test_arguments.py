"""What a script hands to a console that it cannot mean: an error of ours that names the parameter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hmc.arguments import WAIT_MOST_S, BadArgument
from hmc.connection import Console, ConsoleClosed, ConsoleUnreachable, OutcomeUnknown
from protocol.codes import CreditType, WindowStatus
from protocol.console_messages import ChangeProcessors, ConfigurationApplied, QueryWindows, WindowRow, Windows
from protocol.curve import KeyRefused
from protocol.socket import NodeSocket

Call = Callable[[Console], object]


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    """Nobody is there; what is wrong by itself is told before anybody is asked."""
    with Console(f"ipc://{tmp_path}/hmc") as made:
        yield made


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda c: c.change_processors("lp1", 1 << 31), "cores: expected -2147483648 to 2147483647, came 2147483648"),
        (lambda c: c.change_processors("lp1", 1, wait_s=-1), f"wait_s: expected 0 to {WAIT_MOST_S} seconds, came -1"),
        (lambda c: c.change_processors("l p", 1), "lpar: expected letters, digits"),
        (lambda c: c.set_entitlement("lp1", 5, wait_s=math.nan), "wait_s: expected 0 to"),
        (lambda c: c.set_qos_credits("lp1", 5, wait_s=math.inf), "wait_s: expected 0 to"),
        (lambda c: c.migrate("lp1", hold_s=-0.5), "hold_s: expected 0 to"),
        (lambda c: c.windows(""), "lpar: expected letters, digits"),
        (lambda c: c.system(wait_s=-1), "wait_s: expected 0 to"),
    ],
)
def test_a_value_that_cannot_be_is_a_value_error(console: Console, call: Call, complaint: str) -> None:
    with pytest.raises(ValueError) as refused:
        call(console)
    assert type(refused.value) is BadArgument
    assert str(refused.value).startswith(complaint)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda c: c.change_processors("lp1", 1.5), "cores: expected a whole number, came 1.5"),
        (lambda c: c.change_processors("lp1", True), "cores: expected a whole number, came True"),
        (lambda c: c.set_entitlement("lp1", "50"), "hundredths: expected a whole number, came '50'"),
        (lambda c: c.set_qos_credits("lp1", None), "credits: expected a whole number, came None"),
        (lambda c: c.migrate("lp1", wait_s="3"), "wait_s: expected seconds as a number, came '3'"),
        (lambda c: c.windows(1), "lpar: expected a partition's name, came 1"),
        (lambda c: c.hold_notifications("lp1", 1), "hold: expected True or False, came 1"),
    ],
)
def test_a_value_of_another_type_is_a_type_error(console: Console, call: Call, complaint: str) -> None:
    with pytest.raises(TypeError) as refused:
        call(console)
    assert str(refused.value) == complaint


@pytest.mark.parametrize("endpoint", ["rubbish", "", "tcp://host", "http://host:80", "tcp://host:0", "ipc://"])
def test_what_is_no_endpoint_is_refused_when_the_console_is_made(endpoint: str) -> None:
    with pytest.raises(BadArgument, match="endpoint: expected ipc:///path/of/a/socket or tcp://host:port, came "):
        Console(endpoint)


def test_an_endpoint_that_cannot_be_dialled_is_unreachable(tmp_path: Path) -> None:
    with Console(f"ipc://{tmp_path}/{'x' * 200}") as console, pytest.raises(ConsoleUnreachable, match="cannot dial"):
        console.system()


def test_a_closed_console_says_so(tmp_path: Path) -> None:
    console = Console(f"ipc://{tmp_path}/hmc")
    console.close()
    console.close()
    for call in (console.system, console.windows, lambda: console.change_processors("lp1", 1)):
        with pytest.raises(ConsoleClosed, match="this console was closed: make a new one"):
            call()


def row(window_id: int) -> WindowRow:
    return WindowRow(
        window_id=window_id, lpar="lp1", credit_type=CreditType.DEFAULT, unit="nx0", status=WindowStatus.ACTIVE,
        state="open", process_id=1,
    )  # fmt: skip


def test_the_first_page_of_windows_is_asked_for_at_once_and_the_next_when_it_is_wanted(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[QueryWindows] = []

    def answer(request: QueryWindows, _kind: type[Windows]) -> Windows:
        asked.append(request)
        return Windows(rows=(row(request.above + 1), row(request.above + 2)), more=request.above < 2)

    monkeypatch.setattr(console, "ask", answer)
    rows = console.windows("lp1")
    assert [query.above for query in asked] == [0]
    assert [next(rows).window_id, next(rows).window_id] == [1, 2]
    assert len(asked) == 1
    assert [row.window_id for row in rows] == [3, 4]
    assert [(query.lpar, query.above) for query in asked] == [("lp1", 0), ("lp1", 2)]


def test_a_wait_that_cannot_be_is_told_before_anything_is_sent(console: Console) -> None:
    with pytest.raises(BadArgument):
        console.ask(ChangeProcessors(lpar="lp1", cores=1, wait_ms=1000), ConfigurationApplied, wait_s=-1)
    assert not console._core.unanswered


@pytest.mark.parametrize("endpoint", [None, 5, b"ipc:///x"])
def test_an_endpoint_of_another_type_is_a_type_error(endpoint: str) -> None:
    with pytest.raises(TypeError, match="endpoint: expected ipc"):
        Console(endpoint)


@pytest.mark.parametrize(("before", "error"), [(False, ConsoleUnreachable), (True, OutcomeUnknown)])
def test_broken_handshakes_are_waited_out_where_the_hypervisor_was_reached_before(
    console: Console, monkeypatch: pytest.MonkeyPatch, before: bool, error: type[Exception]
) -> None:
    def broken_off(*_: object) -> None:
        raise KeyRefused("every handshake is broken off", definite=False)

    monkeypatch.setattr(NodeSocket, "send", broken_off)
    console._core.was_established = before
    with pytest.raises(error) as raised:
        console.ask(ChangeProcessors(lpar="lp1", cores=1, wait_ms=1000), ConfigurationApplied, wait_s=0.1)
    assert type(raised.value) is error
