"""Command lines of drmgr that cannot be carried out, its usage, and what it says of its capabilities (domain.md 6)."""

from __future__ import annotations

import pytest

from tests.command.machine import Ended, Machine
from tests.fidelity.rows import fidelity
from vasbus.exec.drmgr_options import parse

CPU = "drmgr -c cpu"
USAGE = "Usage: drmgr [-w minutes] [-d detail_level] [-C | --capabilities] [-h | --help]\n"


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.mark.parametrize("connector", ["mem", "slot", "phb", "pci", "port"])
@fidelity(
    "5 triggers",
    "DLPAR of memory or adapters changes no credits and no windows.",
    source="K:vas.c",
    differs="There is no memory and there are no adapters to change: drmgr says so and exits with 255.",
)
def test_memory_and_adapters_do_not_exist_and_change_nothing(machine: Machine, connector: str) -> None:
    before = machine.console.system()
    ended = machine.on("lp1", f"drmgr -c {connector} -r -q 1")
    assert (ended.code, ended.out) == (255, "")
    assert ended.err.startswith("This system has no ")
    assert machine.credits("lp1") == (40, 0)
    assert machine.console.system().lpars == before.lpars


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("drmgr -r -q 1", "A connector type (-c) must be specified\n"),
        ("drmgr -c cpu -q 1", "The '-r' or '-a' option must be specified for CPU operations.\n"),
        ("drmgr -c cpu -i -q 1", "The '-r' or '-a' option must be specified for CPU operations.\n"),
        ("drmgr -c tape -r", 'Dynamic reconfiguration is not supported for connector type "tape" on this system\n'),
        ("drmgr -c acc -q 1", "-t gzip must be specified\n"),
        ("drmgr -c acc -t zstd -q 1", "Invalid Accelerator type: zstd\n"),
        ("drmgr -c acc -t gzip -q -1", "Invalid QoS credit count -1\n"),
    ],
)  # fmt: skip
@fidelity(
    "6 commands",
    "A command line that drmgr cannot carry out is refused with its message and exit 255.",
    source="PU:src/drmgr/drmgr.c",
)
def test_an_incomplete_command_line_is_refused_in_drmgrs_words(machine: Machine, line: str, said: str) -> None:
    assert machine.on("lp1", line) == Ended(255, "", said)
    assert machine.status("lp1").generation == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{CPU} -r -z", "Invalid option specified 'z'\n"),
        (f"{CPU} -r -q", "Invalid option specified 'q'\n"),
        (f"{CPU} -r --all", "Invalid option specified 'all'\n"),
        (f"{CPU} -r -q some", "-q takes a number, came 'some'\n"),
        (f"{CPU} -r -q 1x", "-q takes a number, came '1x'\n"),
        (f"{CPU} -r -q 1_0", "-q takes a number, came '1_0'\n"),
        (f"{CPU} -r -q 0b11", "-q takes a number, came '0b11'\n"),
        (f"{CPU} -r -q 0o17", "-q takes a number, came '0o17'\n"),
        (f"{CPU} -r -q 08", "-q takes a number, came '08'\n"),
        (f"{CPU} -r -q 0x", "-q takes a number, came '0x'\n"),
        (f"{CPU} -r -q --1", "-q takes a number, came '--1'\n"),
        (f"{CPU} -r -q \N{ARABIC-INDIC DIGIT ONE}", "-q takes a number, came '\N{ARABIC-INDIC DIGIT ONE}'\n"),
        (f"{CPU} -r -q 2147483648", "-q takes a number of -2147483647 to 2147483647, came '2147483648'\n"),
        (f"{CPU} -r -q -{'9' * 5000}", f"-q takes a number of -2147483647 to 2147483647, came '-{'9' * 58}\n"),
        (f"{CPU} -r -w -1", "Invalid timeout specified: -1\n"),
        (f"{CPU} -r -w 71583", "Invalid timeout specified: 71583; 71582 minutes at most\n"),
        (f"{CPU} -r -w {'9' * 5000}", f"-w takes a number of -2147483647 to 2147483647, came '{'9' * 59}\n"),
        (f"{CPU} -r -w 0x1", "-w takes a decimal number, came '0x1'\n"),
        (f"{CPU} -r -d 1_0", "-d takes a decimal number, came '1_0'\n"),
    ],
)
@fidelity(
    "6 commands",
    "drmgr reports an option that it does not know, and goes on with what it had read before; a number ends for it "
    "where strtoul ends.",
    source="PU:src/drmgr/drmgr.c",
    differs="It prints its usage and exits with 255: half a command line is not carried out, nor a number that has "
    "something after it, or more than 31 bits.",
)
def test_an_option_that_is_not_understood_stops_drmgr(machine: Machine, line: str, said: str) -> None:
    ended = machine.on("lp1", line)
    assert (ended.code, ended.out) == (255, "")
    assert ended.err.startswith(said + USAGE)
    assert machine.status("lp1").cores == 2


@pytest.mark.parametrize(
    ("text", "number"),
    [("10", 10), ("+3", 3), ("0x1f", 31), ("0X1F", 31), ("017", 15), ("0", 0), ("00", 0), (" \t7", 7), ("-5", -5),
     ("-0x10", -16), ("2147483647", 2147483647), ("0" * 5000 + "17", 15)],
)  # fmt: skip
@fidelity(
    "6 commands",
    "drmgr takes quantities in decimal, with 0x in front in hexadecimal, with 0 in front in octal.",
    source="PU:src/drmgr/drmgr.c",
)
def test_numbers_are_those_of_strtoul_with_base_0(text: str, number: int) -> None:
    assert parse(["-c", "acc", "-q", text]).quantity == number


@pytest.mark.parametrize(("text", "number"), [("10", 10), ("010", 10), ("08", 8), ("+2", 2), (" 7", 7)])
@fidelity("6 commands", "Minutes and detail levels are decimal for drmgr.", source="PU:src/drmgr/drmgr.c")
def test_minutes_and_levels_are_decimal(text: str, number: int) -> None:
    options = parse(["-w", text, "-d", text])
    assert (options.wait_s, options.detail) == (number * 60, number)


def test_the_longest_wait_is_one_that_the_console_can_be_given(machine: Machine) -> None:
    assert machine.on("lp1", f"{CPU} -r -q 1 -w 71582").code == 0
    assert machine.console.waits_s == [71582 * 60]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{CPU} -r -q -1", "-q takes a quantity of 1 or more"),
        (f"{CPU} -r -p smt_threads", "-p takes ent_capacity or variable_weight"),
        (f"{CPU} -r -s CPU_1", "the cores of this system are not told apart"),
    ],
)
def test_what_this_system_does_not_offer_is_said(machine: Machine, line: str, said: str) -> None:
    ended = machine.on("lp1", line)
    assert ended.code == 255
    assert said in ended.err
    assert machine.status("lp1").cores == 2


@pytest.mark.parametrize(
    ("line", "usage"),
    [("drmgr", "{-c {cpu | acc}}"), ("drmgr -h", "{-c {cpu | acc}}"), (f"{CPU} --help", "-c cpu {-a | -r}"),
     ("drmgr -c acc -h", "-c acc -t <accelType> -q <QoS_credit_count>")],
)  # fmt: skip
@fidelity(
    "6 commands",
    "Without options, or with -h, drmgr prints its usage on standard error and exits with 0.",
    source="PU:src/drmgr/drmgr.c",
)
def test_the_usage_is_printed_where_it_is_asked_for(machine: Machine, line: str, usage: str) -> None:
    ended = machine.on("lp1", line)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith(USAGE + usage)


@fidelity("6 commands", "`drmgr -C` prints the capabilities as name=yes or no.", source="PU:src/drmgr/common.c")
def test_the_capabilities_of_a_partition_are_listed(machine: Machine) -> None:
    dedicated = dict(word.split("=") for word in machine.on("lp1", "drmgr -C").out.strip().split(","))
    shared = dict(word.split("=") for word in machine.on("lp3", "drmgr --capabilities").out.strip().split(","))
    assert [name for name, answer in dedicated.items() if answer == "yes"] == ["cpu_dlpar"]
    assert [name for name, answer in shared.items() if answer == "yes"] == ["cpu_entitlement"]
    assert dedicated.keys() == shared.keys()
    assert len(dedicated) == 10
