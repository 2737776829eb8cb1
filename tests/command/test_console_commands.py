"""chhwres and lshwres on the console: flags, output form, messages (domain.md 6)."""

from __future__ import annotations

import pytest

from protocol.codes import CreditType
from protocol.console_messages import HoldNotifications, SetQosCredits
from tests.command.machine import SYSTEM, Ended, Machine
from tests.fidelity.rows import fidelity

ACCEL = "chhwres -r accel -m frame --rsubtype gzip -o s"
PROC = "chhwres -r proc -m frame"
DONE = Ended(0, "", "")


@pytest.fixture
def machine() -> Machine:
    return Machine()


def qos_target(machine: Machine, lpar: str) -> int:
    return next(pool.target for pool in machine.status(lpar).pools if pool.credit_type is CreditType.QOS)


# chhwres -r accel.


@fidelity(
    "6 commands",
    "`chhwres -r accel -m SYSTEM --rsubtype gzip -o s -p LPAR -q N` sets the absolute number of QoS credits and prints "
    "nothing.",
    source="OPT",
)
def test_qos_credits_are_set_in_the_partition_and_in_the_pool(machine: Machine) -> None:
    assert machine.hmc(f"{ACCEL} -p lp1 -q 12") == DONE
    assert machine.credits("lp1", "qos") == (12, 0)
    assert qos_target(machine, "lp1") == 12
    assert machine.hmc(f"{ACCEL} -p lp1 -q 0") == DONE
    assert machine.credits("lp1", "qos") == (0, 0)


@fidelity(
    "6 commands",
    "Too few QoS credits are HSCLC016 with those available, assigned and additionally requested; the increment counts.",
    source="PC-CHACCEL",
    differs="The number and the three amounts are the console's, the sentence around them is ours.",
)
def test_insufficient_qos_credits_are_hsclc016_with_the_three_amounts(machine: Machine) -> None:
    ended = machine.hmc(f"{ACCEL} -p lp2 -q 50")
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("HSCLC016 ")
    amounts = "available system QoS 12, assigned partition QoS 22, additional requested partition QoS 28"
    assert amounts in ended.err
    assert machine.hmc(f"{ACCEL} -p lp2 -q 34") == DONE


@fidelity(
    "6 commands",
    "An operating system that takes no QoS credits while it runs is HSCLC102.",
    source="PC-CHACCEL",
)
def test_an_operating_system_without_dynamic_qos_is_hsclc102() -> None:
    machine = Machine(SYSTEM.replace('name = "lp1"', 'name = "lp1"\ndynamic_qos = false'))
    ended = machine.hmc(f"{ACCEL} -p lp1 -q 1")
    assert (ended.code, ended.err[:9]) == (1, "HSCLC102 ")


@pytest.mark.parametrize(
    "line", [f"{ACCEL} -p lp1 -q 1", "lshwres -r accel -m frame --level sys", "lshwres -r accel -m frame --level lpar"]
)
@fidelity("6 commands", "A system without accelerators is HSCLC014.", source="PC-CHACCEL")
def test_a_system_without_accelerators_is_hsclc014(line: str) -> None:
    bare = SYSTEM.replace("qos_credits = 34", "accelerators = false").replace("qos_credits = 22", "")
    machine = Machine(bare)
    ended = machine.hmc(line)
    assert (ended.code, ended.out, ended.err[:9]) == (1, "", "HSCLC014 ")
    assert machine.hmc("lshwres -r proc -m frame --level sys").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-q 2147483648", "-q takes a whole number of 0 to 2147483647, came '2147483648'"),
        ("-q 99999999999999999999", "-q takes a whole number of 0 to 2147483647, came '99999999999999999999'"),
        (f"-q {'9' * 5000}", f"-q takes a whole number of 0 to 2147483647, came '{'9' * 59}\n"),
        ("-q -1", "-q takes a whole number of 0 to 2147483647, came '-1'"),
        ("-q 1 -w 99999999999999", "-w takes a whole number of 0 to 71582, came '99999999999999'"),
        ("-q 65536", "credits"),
        ("-q 2147483647", "credits"),
    ],
)
def test_qos_credits_that_are_no_number_of_credits_are_refused_with_the_bounds(
    machine: Machine, words: str, said: str
) -> None:
    ended = machine.hmc(f"{ACCEL} -p lp1 {words}")
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert qos_target(machine, "lp1") == 0


def test_the_wait_of_chhwres_is_in_minutes(machine: Machine) -> None:
    machine.hmc(f"{ACCEL} -p lp1 -q 1 -w 3 -d 1 --force")
    machine.hmc(f"{PROC} -o a -p lp1 --procs 1 -w 0")
    assert machine.console.waits_s == [180, 30.0]


# chhwres -r proc.


@fidelity(
    "6 commands",
    "`chhwres -r proc -o a|r --procs N` adds or removes processors of a dedicated partition.",
    source="OPT",
)
def test_cores_are_added_and_removed_relatively(machine: Machine) -> None:
    assert machine.hmc(f"{PROC} -o r -p lp1 --procs 1") == DONE
    assert machine.credits("lp1") == (20, 0)
    assert machine.hmc(f"{PROC} -o a -p lp1 --procs 3") == DONE
    assert machine.credits("lp1") == (80, 0)
    refused = machine.hmc(f"{PROC} -o a -p lp2 --procs 3")
    assert (refused.code, refused.out) == (1, "")
    assert "0 available, 1 assigned, 3 additional requested" in refused.err


@pytest.mark.parametrize(
    ("words", "hundredths"),
    [("-o a -p lp3 --procunits 0.4", 120), ("-o r -p lp3 --procunits 0.05", 75), ("-o a -p lp3 --procunits 1", 180),
     ("-o a -p lp3 --procunits .2", 100), ("-o a -p lp3 --procunits 0.20", 100)],
)  # fmt: skip
@fidelity(
    "6 commands",
    "`chhwres -r proc -o a|r --procunits U` adds or removes processing units of a shared partition.",
    source="OPT",
)
def test_processing_units_are_added_and_removed_relatively(machine: Machine, words: str, hundredths: int) -> None:
    assert machine.hmc(f"{PROC} {words}") == DONE
    assert machine.status("lp3").hundredths == hundredths
    assert machine.credits("lp3")[0] == hundredths // 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-o a -p lp3 --procs 1", "virtual processors are not modelled"),
        ("-o a -p lp1 --procunits 0.1", "lp1 uses dedicated processors: use --procs"),
        ("-o a -p lp3 --procunits 9", "220 available, 80 assigned, 900 additional requested"),
        ("-o r -p lp3 --procunits 0.8", "5 hundredths or more"),
        ("-o r -p lp1 --procs 2", "keeps at least 1"),
        ("-o a -p lp1", "expected --procs or --procunits"),
        ("-o a -p lp1 --procs 1 --procunits 1", "expected --procs or --procunits"),
        ("-o a -p lp1 --procs 0", "--procs takes a whole number of 1 to 2147483647, came '0'"),
        ("-o a -p lp1 --procs -1", "--procs takes a whole number of 1 to 2147483647, came '-1'"),
        ("-o a -p lp1 --procs 1_0", "--procs takes a whole number of 1 to 2147483647, came '1_0'"),
        ("-o a -p lp1 --procs \N{ARABIC-INDIC DIGIT ONE}", "--procs takes a whole number"),
        ("-o a -p lp1 --procs 2147483647", "2147483647 additional requested"),
        ("-o r -p lp1 --procs 2147483647", "keeps at least 1"),
        ("-o a -p lp1 --procs 2147483648", "--procs takes a whole number of 1 to 2147483647, came '2147483648'"),
        (f"-o a -p lp1 --procs {'9' * 5000}", f"--procs takes a whole number of 1 to 2147483647, came '{'9' * 59}\n"),
        ("-o a -p lp3 --procunits 9999999.99", "999999999 additional requested"),
        (f"-o a -p lp3 --procunits {'9' * 5000}", f"of at most two decimals, came '{'9' * 59}\n"),
        ("-o a -p lp3 --procunits \N{ARABIC-INDIC DIGIT ONE}", "at most two decimals"),
        ("-o a -p lp1 --procs 1 -w 71583", "-w takes a whole number of 0 to 71582, came '71583'"),
        ("-o a -p lp3 --procunits 0.125", "at most two decimals"),
        ("-o a -p lp3 --procunits 0", "at most two decimals"),
        ("-o a -p lp3 --procunits -1", "at most two decimals"),
        ("-o a -p lp3 --procunits .", "at most two decimals"),
        ("-o s -p lp1 --procs 1", "-o takes a or r"),
        ("-o a --procs 1", "the option -p is missing"),
        ("-o a -p lp1 --procs 1 -q 3", "-q does not go with these options"),
    ],
)
@fidelity(
    "6 commands",
    "chhwres refuses what does not fit the partition's processor mode or the system's free processors, with exit 1.",
    source="OPT",
    differs="The messages are ours; the real ones are not public.",
)
def test_what_does_not_fit_is_refused_and_changes_nothing(machine: Machine, words: str, said: str) -> None:
    before = machine.console.system().lpars
    ended = machine.hmc(f"{PROC} {words}")
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert machine.console.system().lpars == before


# Both.


@pytest.mark.parametrize("command", [f"{ACCEL} -q 1", f"{PROC} -o a --procs 1", "lshwres -r proc --level lpar"])
@fidelity(
    "6 commands",
    "A managed system or partition that the console does not know is an error with exit 1.",
    source="OPT",
    differs="The message numbers are the console's (HSCL8018, HSCL8012), the sentences are ours.",
)
def test_unknown_systems_and_partitions_are_named_beside_those_that_there_are(machine: Machine, command: str) -> None:
    which = "--filter lpar_names=lp9" if command.startswith("lshwres") else "-p lp9"
    ended = machine.hmc(f"{command} -m frame {which}")
    assert ended == Ended(1, "", "HSCL8012 The partition lp9 was not found: frame has lp1, lp2, lp3\n")
    ended = machine.hmc(f"{command} -m other {which}")
    assert ended == Ended(1, "", "HSCL8018 The managed system other was not found: this console manages frame\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("chhwres", "the option -r is missing"),
        ("chhwres -r mem -m frame", "-r takes accel or proc, came 'mem'"),
        ("chhwres -r accel -m frame -o s -p lp1 -q 1", "the option --rsubtype is missing"),
        ("chhwres -r accel -m frame -o s -p lp1 -q 1 --rsubtype 842", "--rsubtype takes gzip, came '842'"),
        ("chhwres -r accel -m frame -o a -p lp1 -q 1 --rsubtype gzip", "-o takes s, came 'a'"),
        (f"{ACCEL} -p lp1 -q many", "-q takes a whole number of 0 to 2147483647"),
        (f"{ACCEL} -p lp1 -q 1 extra", "expected options only, came 'extra'"),
        (f"{ACCEL} -p lp1 -q", "option -q requires argument"),
        ("chhwres -r accel --rsubtype gzip -o s -p lp1 -q 1", "the option -m is missing"),
        ("lshwres -m frame --level sys", "the option -r is missing"),
        ("lshwres -r accel -m frame", "the option --level is missing"),
        ("lshwres -r accel -m frame --level pool", "--level takes sys or lpar, came 'pool'"),
        ("lshwres -r proc -m frame --level sys --header", "--header goes with -F"),
        ("lshwres -r proc -m frame --level sys -F nonsense", "no attribute 'nonsense'; there are configurable_sys"),
        ("lshwres -r proc -m frame --level lpar --filter lpar_ids=1", "--filter takes lpar_names="),
        ("lshwres -r proc -m frame --level sys --filter lpar_names=lp1", "with --level lpar"),
    ],
)
def test_a_command_line_that_lacks_something_is_told_what(machine: Machine, line: str, said: str) -> None:
    ended = machine.hmc(line)
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
    assert f"Usage: {line.split()[0]} " in ended.err


@pytest.mark.parametrize("command", ["chhwres", "lshwres"])
def test_help_is_printed_where_it_is_asked_for(machine: Machine, command: str) -> None:
    ended = machine.hmc(f"{command} --help")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"Usage: {command} ")


# lshwres.


@fidelity(
    "6 commands",
    "`lshwres -r accel --level sys` tells the type, the most QoS credits, those available and those pending.",
    source="PC-QOS",
    differs="The attribute names follow the columns of a public tool (max_qos, curr_avail_qos, pend_avail_qos).",
)
def test_the_systems_qos_credits_are_listed(machine: Machine) -> None:
    command = "lshwres -r accel -m frame --level sys"
    assert machine.hmc(command) == Ended(0, "type=gzip,max_qos=34,curr_avail_qos=12,pend_avail_qos=12\n", "")
    machine.hmc(f"{ACCEL} -p lp1 -q 10")
    assert machine.hmc(f"{command} --rsubtype gzip -F curr_avail_qos") == Ended(0, "2\n", "")


def test_credits_that_are_being_assigned_are_pending(machine: Machine) -> None:
    machine.console.host.ask(HoldNotifications(lpar="lp1", hold=True))
    core = machine.console.host.host.core
    core.ask(SetQosCredits(lpar="lp1", credits=10, wait_ms=5_000), machine.system.now_us)
    machine.system.settle(machine.console.host.host)
    machine.system.pass_time(10_000)
    fields = machine.hmc("lshwres -r accel -m frame --level sys -F curr_avail_qos,pend_avail_qos")
    assert fields == Ended(0, "12,2\n", "")


@fidelity(
    "6 commands",
    "The console lists a record in a line of attribute=value pairs separated by commas; -F gives the values alone, "
    "`null` where there is none, and --header the attribute names above them.",
    source="OPT",
)
def test_records_come_in_the_consoles_form(machine: Machine) -> None:
    command = "lshwres -r proc -m frame --level lpar"
    assert machine.hmc(command).out.splitlines() == [
        "lpar_name=lp1,curr_proc_mode=ded,curr_procs=2",
        "lpar_name=lp2,curr_proc_mode=ded,curr_procs=1",
        "lpar_name=lp3,curr_proc_mode=shared,curr_proc_units=0.8",
    ]
    assert machine.hmc(f"{command} -F lpar_name,curr_procs").out == "lp1,2\nlp2,1\nlp3,null\n"
    assert machine.hmc(f"{command} -F lpar_name:curr_procs --header").out.splitlines()[:2] == [
        "lpar_name:curr_procs", "lp1:2",
    ]  # fmt: skip
    assert machine.hmc(*command.split(), "-F", "lpar_name curr_procs").out.splitlines()[0] == "lp1 2"
    assert machine.hmc(f"{command} -F --header").out.splitlines()[0] == (
        "lpar_name,curr_proc_mode,curr_proc_units,curr_procs"
    )
    assert machine.hmc(f"{command} -F").out.splitlines()[2] == "lp3,shared,0.8,null"


@fidelity("6 commands", "--filter lpar_names=... lists these partitions only.", source="OPT")
def test_a_filter_chooses_partitions(machine: Machine) -> None:
    command = "lshwres -r accel -m frame --level lpar"
    every = (
        "lpar_name=lp1,type=gzip,curr_qos=0\nlpar_name=lp2,type=gzip,curr_qos=22\nlpar_name=lp3,type=gzip,curr_qos=0\n"
    )
    assert machine.hmc(command).out == every
    assert machine.hmc(f"{command} --filter lpar_names=lp2").out == "lpar_name=lp2,type=gzip,curr_qos=22\n"
    assert machine.hmc(f'{command} --filter "lpar_names=lp3,lp2" -F lpar_name').out == "lp2\nlp3\n"


def test_the_systems_processors_are_listed_with_a_decimal(machine: Machine) -> None:
    command = "lshwres -r proc -m frame --level sys"
    assert machine.hmc(command).out == "configurable_sys_proc_units=6.0,curr_avail_sys_proc_units=2.2\n"
    machine.hmc(f"{PROC} -o a -p lp3 --procunits 0.15")
    assert machine.hmc(f"{command} -F curr_avail_sys_proc_units").out == "2.05\n"
