"""drmgr on a partition: flags, messages, exit codes, and the path of each change (domain.md 6)."""

from __future__ import annotations

import errno

import pytest

from protocol.codes import CreditType
from tests.command.machine import SYSTEM, Ended, Machine
from tests.fidelity.rows import fidelity

CPU = "drmgr -c cpu"
ENTITLEMENT = "drmgr -c cpu -p ent_capacity"


@pytest.fixture
def machine() -> Machine:
    return Machine()


# Cores.


@fidelity(
    "6 commands",
    "`drmgr -c cpu -r|-a -q N` removes or adds N cores one after the other, prints the name of each, and exits with 0.",
    source="PU:src/drmgr/drslot_chrp_cpu.c",
    differs="Cores go through the console's link, since there is no firmware to call, and are named by their count.",
)
def test_cores_go_one_after_the_other_and_the_windows_follow(machine: Machine) -> None:
    windows = [machine.process("lp1").open_window() for _ in range(40)]
    assert machine.on("lp1", f"{CPU} -r -q 1") == Ended(0, "CPU 2\n", "")
    assert machine.credits("lp1") == (20, 40)
    assert machine.on("lp1", f"{CPU} -a -q 2") == Ended(0, "CPU 2\nCPU 3\n", "")
    assert (machine.credits("lp1"), machine.status("lp1").cores) == ((60, 40), 3)
    assert machine.status("lp1").generation == 3
    for window in windows:
        window.close()


@fidelity("6 commands", "Without -q, drmgr changes one core.", source="PU:src/drmgr/drslot_chrp_cpu.c")
def test_one_core_is_meant_where_no_quantity_is_given(machine: Machine) -> None:
    assert machine.on("lp1", f"{CPU} -r").code == 0
    assert machine.status("lp1").cores == 1


@pytest.mark.parametrize(("detail", "said"), [("", ""), (" -d 2", "Cannot remove the last CPU\n")])
@fidelity(
    "6 commands",
    "drmgr removes cores until one is left, which it keeps: exit 255, and from detail level 2 on it says so.",
    source="PU:src/drmgr/drslot_chrp_cpu.c",
)
def test_the_last_core_stays(machine: Machine, detail: str, said: str) -> None:
    assert machine.on("lp1", f"{CPU} -r -q 5{detail}") == Ended(255, "CPU 2\n", said)
    assert machine.status("lp1").cores == 1


@fidelity(
    "6 commands",
    "An addition of cores succeeds if at least one was to be had, and exits with 1 if none was.",
    source="PU:src/drmgr/drslot_chrp_cpu.c",
)
def test_some_of_the_cores_asked_for_are_a_success(machine: Machine) -> None:
    ended = machine.on("lp1", f"{CPU} -a -q 5")
    assert (ended.code, ended.out) == (0, "CPU 3\nCPU 4\n")
    assert ended.err.startswith("Could not find available cpu.\n")
    ended = machine.on("lp1", f"{CPU} -a -q 1")
    assert (ended.code, ended.out) == (1, "")
    assert "0 available, 4 assigned, 1 additional requested" in ended.err
    assert machine.status("lp1").cores == 4


@fidelity(
    "6 commands",
    "On a shared partition drmgr adds and removes virtual processors.",
    source="PU:src/drmgr/drslot_chrp_cpu.c",
    differs="Refused with the reason: there are no virtual processors here, and credits would not follow them.",
)
@fidelity(
    "5 triggers",
    "Virtual processors alone change no credits of a shared partition: its kernel ignores what it is told of them.",
    source="ML:be35124103",
    differs="The kernel ignores them likewise, but nobody can change them: drmgr and chhwres refuse.",
)
def test_a_shared_partition_has_no_cores_to_change(machine: Machine) -> None:
    for action in ("-a", "-r"):
        ended = machine.on("lp3", f"{CPU} {action} -q 1")
        assert (ended.code, ended.out) == (255, "")
        assert "virtual processors are not modelled" in ended.err
    assert machine.credits("lp3") == (16, 0)
    assert machine.status("lp3").generation == 0


@pytest.mark.parametrize(("words", "wait_s"), [("", 30.0), (" -w 2", 120), (" -w 0", 30.0)])
def test_the_wait_is_given_in_minutes(machine: Machine, words: str, wait_s: float) -> None:
    machine.on("lp1", f"{CPU} -r -q 1{words}")
    assert machine.console.waits_s == [wait_s]


# Entitled capacity.


@fidelity(
    "6 commands",
    "`drmgr -c cpu -p ent_capacity -q H -r|-a` takes hundredths relative to the present capacity and writes the "
    "absolute value to lparcfg.",
    source="PU:src/drmgr/common.c",
)
def test_relative_hundredths_are_written_as_an_absolute_value(machine: Machine) -> None:
    windows = [machine.process("lp3").open_window() for _ in range(16)]
    assert machine.on("lp3", f"{ENTITLEMENT} -q 40 -r") == Ended(0, "", "")
    assert machine.status("lp3").hundredths == 40
    assert machine.credits("lp3") == (8, 16)
    assert machine.on("lp3", f"{ENTITLEMENT} -q 0x78 -a") == Ended(0, "", "")
    assert machine.status("lp3").hundredths == 160
    assert machine.credits("lp3") == (32, 16)
    assert "partition_entitled_capacity=160\n" in machine.on("lp3", "cat /proc/ppc64/lparcfg").out
    assert machine.status("lp3").generation == 0, "the console had no part in it"
    for window in windows:
        window.close()


@fidelity(
    "6 commands",
    "Taking away more entitled capacity than there is is refused with exit 1 and both numbers in hexadecimal.",
    source="PU:src/drmgr/common.c",
)
def test_more_capacity_than_there_is_cannot_be_removed(machine: Machine) -> None:
    ended = machine.on("lp3", f"{ENTITLEMENT} -r -q 81")
    assert ended.code == 1
    assert ended.err.splitlines() == [
        "Cannot reduce system parameter value ent_capacity by more than is currently available.",
        "Current value: 50, asking to remove: 51",
        "Could not update system parameter ent_capacity",
    ]
    assert machine.status("lp3").hundredths == 80


@pytest.mark.parametrize(
    ("words", "begins", "code"),
    [
        ("-r -q 76", "[Errno 22] EINVAL: ", "H_PARAMETER"),
        ("-r -q 78", "[Errno 22] EINVAL: ", "H_PARAMETER"),
        ("-r -q 80", "[Errno 22] EINVAL: ", "H_PARAMETER"),
        ("-a -q 221", "[Errno 16] EBUSY: ", "H_RESOURCE"),
        ("-a -q 9999", "[Errno 16] EBUSY: ", "H_RESOURCE"),
    ],
)
@fidelity(
    "6 commands",
    "drmgr does not look at what closing lparcfg says, where the error of a failed write comes: it ends with 0.",
    source="PU:src/drmgr/common.c",
    differs="The error is told, with drmgr's words for other failures (`Could not update system parameter`), and 255.",
)
def test_what_the_hypervisor_refuses_fails_in_drmgrs_words(
    machine: Machine, words: str, begins: str, code: str
) -> None:
    ended = machine.on("lp3", f"{ENTITLEMENT} {words}")
    assert ended.code == 255
    assert ended.err.startswith(begins)
    assert f"({code})" in ended.err
    assert ended.err.endswith("Could not update system parameter ent_capacity\n")
    assert machine.credits("lp3") == (16, 0)
    assert machine.on("lp3", f"{ENTITLEMENT} -a -q 220").code == 0


@pytest.mark.parametrize("parameter", ["ent_capacity", "variable_weight"])
@fidelity(
    "6 commands",
    "Where lparcfg shows no entitled capacity drmgr says that the capability is not enabled and exits with 255.",
    source="PU:src/drmgr/common.c",
)
def test_a_dedicated_partition_has_no_capacity_to_change(machine: Machine, parameter: str) -> None:
    ended = machine.on("lp1", f"drmgr -c cpu -p {parameter} -a -q 10")
    assert ended.code == 255
    assert ended.err.startswith("CPU entitlement capability is not enabled on this platform.\n")


@fidelity(
    "6 commands",
    "`drmgr -c cpu -p variable_weight` changes the uncapped weight by way of lparcfg.",
    source="PU:src/drmgr/common.c",
    differs="lparcfg shows no weight here, so drmgr cannot tell its present value: 255.",
)
def test_the_weight_has_no_present_value(machine: Machine) -> None:
    ended = machine.on("lp3", "drmgr -c cpu -p variable_weight -a -q 10")
    assert ended.code == 255
    assert ended.err.splitlines() == [
        "Could not get current system parameter value of capacity_weight (variable_weight)",
        "Could not update system parameter variable_weight",
    ]


# QoS credits.


@fidelity(
    "6 commands",
    "`drmgr -c acc -t gzip -q N` writes N to update_total_credits: the kernel follows, the hypervisor is not told.",
    source="PU:src/drmgr/dracc_chrp_acc.c",
    differs="The published source tests the type the wrong way round and refuses gzip; here gzip is taken and others "
    "are refused.",
)
def test_qos_credits_are_written_to_the_kernel_alone(machine: Machine) -> None:
    assert machine.on("lp2", "drmgr -c acc -t gzip -q 20") == Ended(0, "", "")
    assert machine.credits("lp2", "qos") == (20, 0)
    pools = {pool.credit_type: pool.target for pool in machine.status("lp2").pools}
    assert pools[CreditType.QOS] == 22


@fidelity(
    "6 commands",
    "Without -q, `drmgr -c acc -t gzip` writes 0.",
    source="PU:src/drmgr/dracc_chrp_acc.c",
)
def test_no_quantity_of_qos_credits_is_none(machine: Machine) -> None:
    assert machine.on("lp2", "drmgr -c acc -t gzip -w 1 -d 4").err == "Successful update total QoS credits\n"
    assert machine.credits("lp2", "qos") == (0, 0)


@fidelity(
    "6 commands",
    "A write of QoS credits that fails prints `Could not write QoS credits` and exits with its errno.",
    source="PU:src/drmgr/dracc_chrp_acc.c",
)
def test_a_refused_write_of_qos_credits_exits_with_the_errno(machine: Machine) -> None:
    assert machine.on("lp2", "drmgr -c acc -t gzip -q 65536") == Ended(
        errno.EINVAL, "", "Could not write QoS credits\n"
    )
    assert machine.credits("lp2", "qos") == (22, 0)


@fidelity(
    "6 commands",
    "Where update_total_credits is missing drmgr cannot open it: 255.",
    source="PU:src/drmgr/dracc_chrp_acc.c",
)
def test_an_older_kernel_has_no_file_for_qos_credits() -> None:
    machine = Machine(SYSTEM.replace('name = "lp1"', 'name = "lp1"\ndynamic_qos = false'))
    ended = machine.on("lp1", "drmgr -c acc -t gzip -q 1")
    path = "/sys/devices/virtual/misc/vas/vas0/gzip/qos_capabilities/update_total_credits"
    assert ended == Ended(255, "", f'Could not open "{path}" to write QoS credits\n')
