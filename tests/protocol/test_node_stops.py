"""How a server process ends, pauses and comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.codes import ExitCode
from protocol.session_messages import BeatEcho
from tests.protocol.caller import RealCaller
from tests.protocol.running import Program


@pytest.fixture
def program(folder: Path) -> Iterator[Program]:
    program = Program(folder)
    yield program
    program.end()


@pytest.fixture
def stubborn(folder: Path) -> Iterator[Program]:
    program = Program(folder, "stubborn")
    yield program
    program.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_the_process_in_order(program: Program, number: signal.Signals) -> None:
    program.process.send_signal(number)
    assert program.exit_code() == ExitCode.OK
    assert program.output.read() == "stopped when asked to\n"
    assert program.stored() == ["stopping", "wound up"]


def test_the_second_signal_stops_it_at_once(stubborn: Program) -> None:
    stubborn.process.send_signal(signal.SIGTERM)
    stubborn.until_stored("stopping")
    assert stubborn.process.poll() is None, "it is still winding up"
    stubborn.process.send_signal(signal.SIGTERM)
    assert stubborn.exit_code() == ExitCode.STOPPED_AT_ONCE
    assert stubborn.output.read() == "stopped at the second signal\n"
    assert stubborn.stored() == ["stopping"]


def test_a_process_that_was_killed_is_replaced_on_the_same_address(folder: Path) -> None:
    first = Program(folder)
    first.end()
    assert Path(first.endpoint.removeprefix("ipc://")).exists(), "the socket's file was left behind"
    second = Program(folder)
    with RealCaller(second.endpoint) as caller:
        caller.connect()
    second.end()


def test_a_listener_that_was_paused_reads_its_messages_before_it_takes_silence_for_death(program: Program) -> None:
    with RealCaller(program.endpoint) as caller:
        caller.connect()
        program.process.send_signal(signal.SIGSTOP)
        paused_s = time.monotonic()
        caller.until(lambda: time.monotonic() > paused_s + 2.5, "the end of a pause of more than two leases")
        program.process.send_signal(signal.SIGCONT)
        caller.received.clear()
        caller.until(lambda: len(caller.bodies(BeatEcho)) >= 3, "echoes")
    assert caller.dialer.session.epoch == 1
    assert not caller.dialer.ended
    assert program.stored() == []
