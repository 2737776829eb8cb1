"""cat, ls and nxstat on a partition, and command lines that name no command."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from lpar.client import Request
from protocol.codes import CompletionCode, ExitCode, FunctionCode
from tests.command.machine import Ended, Machine
from tests.fidelity.rows import fidelity
from vasbus.command import app
from vasbus.exec.programs import ON_CONSOLE, ON_PARTITION

GZIP = "/sys/devices/virtual/misc/vas/vas0/gzip"
NX = "/sys/devices/vio/ibm,compression-v1/nx_gzip_caps"


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_files_are_printed_one_after_the_other(machine: Machine) -> None:
    ended = machine.on("lp1", f"cat {GZIP}/default_capabilities/nr_total_credits {NX}/req_max_processed_len")
    assert ended == Ended(0, "40\n1048576\n", "")


def test_what_cannot_be_read_is_said_and_the_rest_is_printed(machine: Machine) -> None:
    update, used = f"{GZIP}/qos_capabilities/update_total_credits", f"{GZIP}/qos_capabilities/nr_used_credits"
    ended = machine.on("lp1", f"cat /etc/passwd {update} {GZIP} {used}")
    assert (ended.code, ended.out) == (1, "0\n")
    assert ended.err.splitlines() == [
        "cat: /etc/passwd: No such file or directory",
        f"cat: {update}: Permission denied",
        f"cat: {GZIP}: Is a directory",
    ]
    assert machine.on("lp1", "cat").code == 2


def test_folders_are_listed_by_name_and_files_with_their_modes(machine: Machine) -> None:
    assert machine.on("lp1", "ls").out == "proc\nsys\n"
    assert machine.on("lp1", f"ls {NX}/").out.split() == [
        "min_compress_len",
        "min_decompress_len",
        "req_max_processed_len",
    ]
    assert machine.on("lp1", f"ls -l {GZIP}/qos_capabilities").out.splitlines() == [
        "-r--r--r-- nr_total_credits",
        "-r--r--r-- nr_used_credits",
        "--w------- update_total_credits",
    ]
    assert machine.on("lp1", "ls -l /proc /proc/powerpc/lparcfg").out.splitlines() == [
        "/proc:", "dr-xr-xr-x powerpc", "dr-xr-xr-x ppc64",
        "/proc/powerpc/lparcfg:", "-rw-r--r-- /proc/powerpc/lparcfg",
    ]  # fmt: skip


def test_a_folder_that_does_not_exist_is_said(machine: Machine) -> None:
    ended = machine.on("lp1", "ls /sys/dev /proc/powerpc")
    assert ended == Ended(2, "/proc/powerpc:\nlparcfg\n", "ls: cannot access '/sys/dev': No such file or directory\n")
    assert machine.on("lp1", "ls -z").code == 2


@fidelity(
    "6 commands",
    "nxstat shows Opens, Bytes, Faults, Intrs, Polls and Waits by accelerator, unit, window type with its credits, and "
    "window.",
    source="AIX-NXSTAT",
    differs="Opens and Faults are those of the windows that there are; the other columns cannot be counted for a "
    "partition here and have a dash.",
)
def test_the_use_of_the_accelerator_is_shown_by_every_level(machine: Machine) -> None:
    machine.hmc("chhwres -r accel -m frame --rsubtype gzip -o s -p lp1 -q 4")
    process = machine.process("lp1")
    windows = [process.open_window(), process.open_window(qos=True), process.open_window()]
    data = b"a page that is not there " * 10
    for _ in range(2):
        request = Request(FunctionCode.COMPRESS_DHT, data, 4096, absent_source=frozenset({0}))
        assert windows[0].run(request).code is CompletionCode.TRANSLATION_FAULT
    ended = machine.on("lp1", "nxstat")
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split() for line in ended.out.splitlines()]
    titles = ["Opens", "Bytes", "Faults", "Intrs", "Polls", "Waits"]
    assert [row[0] for row in rows if row[1:] == titles] == ["Accelerator", "Unit", "Type", "Window"]
    for name, opens, faults in (
        (["gzip"], "3", "2"), (["nx0"], "3", "2"), (["qos", "credits=1/4"], "1", "0"),
        (["default", "credits=2/40"], "2", "2"), ([f"{windows[0].window_id}", "default", "nx0", "active"], "1", "2"),
        ([f"{windows[1].window_id}", "qos", "nx0", "active"], "1", "0"),
    ):  # fmt: skip
        assert [*name, opens, "-", faults, "-", "-", "-"] in rows
    for window in windows:
        window.close()


def test_closed_windows_are_on_no_unit(machine: Machine) -> None:
    process = machine.process("lp1")
    windows = [process.open_window() for _ in range(21)]
    machine.on("lp1", "drmgr -c cpu -r")
    rows = [line.split() for line in machine.on("lp1", "nxstat -U").out.splitlines()]
    assert {row[0]: row[1] for row in rows} == {"Unit": "Opens", "-": "1", "nx0": "20"}
    newest = machine.on("lp1", "nxstat -W").out.splitlines()[1].split()
    assert newest[1:4] == ["default", "-", "no_cred_close"]
    for window in windows:
        window.close()


def test_levels_are_chosen_and_intervals_refused(machine: Machine) -> None:
    assert machine.on("lp1", "nxstat -TA").out.splitlines()[0].startswith("Accelerator")
    assert "Unit" not in machine.on("lp1", "nxstat -TA").out
    assert machine.on("lp1", "nxstat 1 5").code == 1
    assert "Usage: nxstat" in machine.on("lp1", "nxstat -x").err


@pytest.mark.parametrize("words", [("lpar", "exec", "lp1", "--"), ("hmc", "exec", "--", "--"), ("hmc", "exec", "--")])
def test_a_command_line_without_a_command_is_refused_before_anything_is_asked(words: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(app, [*words])
    assert ended.exit_code == ExitCode.USAGE
    assert "COMMAND..." in ended.output
    assert "not found" not in ended.output


@pytest.mark.parametrize(("where", "programs"), [("lpar", ON_PARTITION), ("hmc", ON_CONSOLE)])
def test_the_help_names_every_command(where: str, programs: dict[str, object]) -> None:
    said = CliRunner().invoke(app, [where, "exec", "--help"], env={"COLUMNS": "200"}).output
    assert ", ".join(sorted(programs)) in said


@pytest.mark.parametrize("name", ["nestaccel", "bash"])
def test_another_command_is_not_found_as_in_a_shell(machine: Machine, name: str) -> None:
    for ended, known in ((machine.on("lp1", f"{name} -c cpu"), "drmgr"), (machine.hmc(f"{name} -r proc"), "chhwres")):
        assert (ended.code, ended.out) == (127, "")
        assert ended.err.startswith(f"{name}: command not found; there are\n")
        assert f"  {known} " in ended.err


@pytest.mark.parametrize("words", [["--hmc", "rubbish"], ["--hmc=rubbish"], ["--dir", "none", "--hmc", "rubbish"]])
def test_options_work_before_the_name_and_between_it_and_the_dashes(words: list[str]) -> None:
    for line in ([*words, "lp1", "--", "nxstat", "-A"], ["lp1", *words, "--", "nxstat", "-A"]):
        done = CliRunner().invoke(app, ["lpar", "exec", *line])
        assert "'rubbish' is no endpoint" in str(done.exception), line


def test_an_option_without_dashes_behind_it_is_refused_with_where_it_belongs() -> None:
    done = CliRunner().invoke(app, ["lpar", "exec", "lp1", "--hmc", "ipc:///run/hmc", "nxstat"], env={"COLUMNS": "200"})
    assert done.exit_code == ExitCode.USAGE
    assert "expected a command, came the option '--hmc': options stand before `--`" in done.stderr


def test_what_stands_behind_the_dashes_is_the_commands_own() -> None:
    line = ["--hmc", "rubbish", "lp1", "nxstat", "--hmc", "other", "--", "-A"]
    done = CliRunner().invoke(app, ["lpar", "exec", *line])
    assert "'rubbish' is no endpoint" in str(done.exception)
