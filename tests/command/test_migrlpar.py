"""migrlpar on the console: what it migrates, and how it says no."""

from __future__ import annotations

import pytest

from lpar.client import Request
from protocol.codes import CompletionCode, FunctionCode
from protocol.console_messages import HoldNotifications
from tests.command.machine import Ended, Machine

MIGRATE = "migrlpar -o m -m frame -t frame"
DONE = Ended(0, "", "")


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_partition_is_migrated_and_nothing_is_printed(machine: Machine) -> None:
    window = machine.process("lp1").open_window()
    before = machine.status("lp1")
    assert machine.hmc(f"{MIGRATE} -p lp1") == DONE
    after = machine.status("lp1")
    assert (before.home_chip, after.home_chip) == (0, 1)
    assert after.generation == before.generation + 1
    assert after.pools == before.pools
    assert window.run(Request(FunctionCode.COMPRESS_FHT, b"moved " * 50, 300)).code is CompletionCode.OK


def test_validation_migrates_nothing(machine: Machine) -> None:
    before = machine.status("lp1")
    assert machine.hmc("migrlpar -o v -m frame -t frame -p lp1") == DONE
    assert machine.status("lp1") == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("migrlpar -m frame -t frame -p lp1", "the option -o is missing"),
        ("migrlpar -o x -m frame -t frame -p lp1", "-o takes m or v"),
        ("migrlpar -o s -m frame -p lp1", "-o s has nothing to do"),
        ("migrlpar -o r -m frame -p lp1", "-o r has nothing to do"),
        ("migrlpar -o m -m other -t frame -p lp1", "HSCL8018 The managed system other was not found"),
        ("migrlpar -o m -m frame -t other -p lp1", "the target system other was not found"),
        ("migrlpar -o m -m frame -p lp1", "the option -t is missing"),
        ("migrlpar -o m -m frame -t frame", "the option -p is missing"),
        (f"{MIGRATE} -p lp9", "HSCL8012 The partition lp9 was not found: frame has lp1, lp2, lp3"),
        (f"{MIGRATE} -p lp1 -w soon", "-w takes a whole number of 0 to 71582, came 'soon'"),
        (f"{MIGRATE} -p lp1 -w 71583", "-w takes a whole number of 0 to 71582, came '71583'"),
        (f"{MIGRATE} -p lp1 -w 99999999999999", "-w takes a whole number of 0 to 71582, came '99999999999999'"),
        (f"{MIGRATE} -p lp1 -w {'9' * 5000}", f"-w takes a whole number of 0 to 71582, came '{'9' * 59}\n"),
        (f"{MIGRATE} -p lp1 lp2", "expected options only"),
    ],
)
def test_what_cannot_be_done_is_told(machine: Machine, line: str, said: str) -> None:
    ended = machine.hmc(line)
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert machine.status("lp1").generation == 0


@pytest.mark.parametrize("operation", ["m", "v"])
def test_a_partition_that_is_not_running_is_neither_migrated_nor_valid(machine: Machine, operation: str) -> None:
    machine.system.kill("lp2")
    machine.system.run_until(lambda: machine.status("lp2").state == "not_activated")
    ended = machine.hmc(f"migrlpar -o {operation} -m frame -t frame -p lp2")
    assert (ended.code, ended.out) == (1, "")
    assert "lp2 is not running" in ended.err


def test_the_wait_is_in_minutes_and_its_end_is_told(machine: Machine) -> None:
    machine.console.host.ask(HoldNotifications(lpar="lp1", hold=True))
    ended = machine.hmc(f"{MIGRATE} -p lp1 -w 2")
    assert machine.console.waits_s == [120]
    assert ended.code == 1
    assert "the migration is given up" in ended.err


def test_help_is_printed(machine: Machine) -> None:
    assert machine.hmc("migrlpar --help").out.startswith("Usage: migrlpar -o {m | v}")
