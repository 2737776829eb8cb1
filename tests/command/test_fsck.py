"""`vasbus fsck` as a user types it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from hypervisor.rows import PartitionRow, Put, Row
from hypervisor.store import LedgerStore
from protocol.codes import ExitCode
from tests.hypervisor.test_fsck import LP1, SOUND, WINDOW, with_change
from tests.hypervisor.unusable_ledgers import newer
from vasbus.command import app

SYSTEM = """
[[chip]]
number = 0
unit = "nx0"
cores = 2

[[lpar]]
name = "lp1"
cores = 2
"""


def ledger(folder: Path, rows: Sequence[Row]) -> Path:
    path = folder / "ledger.sqlite"
    with closing(LedgerStore(path)) as store:
        store.commit([Put(row) for row in rows])
    return path


def fsck(*words: object) -> tuple[ExitCode, str, str]:
    """Its exit code, output and errors."""
    done = CliRunner().invoke(app, ["fsck", *map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return ExitCode(done.exit_code), done.stdout, done.stderr


def test_a_sound_ledger_is_said_to_be_sound(tmp_path: Path) -> None:
    path = ledger(tmp_path, SOUND)
    code, output, _ = fsck(path)
    assert code is ExitCode.OK
    assert output.splitlines() == [
        f"{path}: schema 4, {path.stat().st_size} bytes",
        "rows: 1 PartitionRow, 1 LedgerWindowRow, 3 SessionRow, 1 AnswerRow, 3 ChangeRow, 1 FaultRow, 1 UnitGuardRow, "
        "3 CounterRow",
        "sound: pages, tables, rows and their connections",
    ]


def test_findings_are_printed_and_the_exit_code_says_so(tmp_path: Path) -> None:
    code, output, _ = fsck(ledger(tmp_path, with_change(WINDOW, epoch=3)))
    assert code is ExitCode.FAILED
    assert output.splitlines()[2:] == [
        "finding: LedgerWindowRow 9: lp1 never had a session with epoch 3",
        "not sound: 1 finding; the hypervisor starts with it all the same",
    ]


def test_rows_that_make_no_sense_keep_the_hypervisor_from_starting(tmp_path: Path) -> None:
    partitions = [PartitionRow(f"lp{number}", "rented", 2, 0, 0, 0, 0, 0, 0) for number in range(60)]
    code, output, _ = fsck(ledger(tmp_path, partitions))
    assert code is ExitCode.FAILED
    assert output.splitlines()[-2:] == [
        "10 more: --json has all",
        "not sound: 60 findings; the hypervisor does not start with it",
    ]
    assert output.count("finding: PartitionRow") == 50


def test_a_system_file_adds_remarks_which_are_no_findings(tmp_path: Path) -> None:
    system = tmp_path / "system.toml"
    system.write_text(SYSTEM)
    code, output, _ = fsck(ledger(tmp_path, with_change(LP1, cores=3)), "--system", system)
    assert code is ExitCode.OK
    assert output.splitlines()[2:] == [
        "remark: processors: the partitions have 300 hundredths of a processor, the chips 200: none can be added "
        "before some are removed",
        "sound: pages, tables, rows and their connections",
    ]


def test_programs_get_everything_as_json(tmp_path: Path) -> None:
    path = ledger(tmp_path, [*SOUND, replace(WINDOW, window_id=8)])
    code, output, _ = fsck(path, "--json")
    told = json.loads(output)
    assert code is ExitCode.FAILED
    assert told["findings"] == [
        {"weight": "wrong", "what": "LedgerWindowRow 9", "text": "it has the token of window 8"}
    ]
    assert (told["ledger"], told["sound"], told["schema"], told["remarks"]) == (str(path), False, 4, [])
    assert (told["file_bytes"], told["log_bytes"], told["rows"]["LedgerWindowRow"]) == (path.stat().st_size, 0, 2)


def test_what_is_no_ledger_ends_with_its_own_code(tmp_path: Path) -> None:
    code, _, complaint = fsck(newer(tmp_path))
    assert (code, "written by a newer release" in complaint) == (ExitCode.STORE_VERSION, True)
    code, _, complaint = fsck(tmp_path / "nothing")
    assert (code, "there is no such file: name the ledger's file" in complaint) == (ExitCode.STORE_FOREIGN, True)
    code, _, complaint = fsck(tmp_path)
    assert (code, "it is no file" in complaint) == (ExitCode.STORE_FOREIGN, True)


def test_an_empty_file_is_said_to_be_no_ledger_yet(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch()
    code, output, _ = fsck(path)
    assert code is ExitCode.OK
    assert output.splitlines()[-1] == "empty: no ledger yet, a hypervisor makes one of it"
    assert "sound" not in output
    told = json.loads(fsck(path, "--json")[1])
    assert (told["empty"], told["rows"]["PartitionRow"]) == (True, 0)
    with closing(LedgerStore(path)):
        pass
    told = json.loads(fsck(path, "--json")[1])
    assert (told["empty"], told["sound"]) == (False, True)


def test_the_help_names_each_exit_code_of_a_check() -> None:
    help_text = CliRunner().invoke(app, ["fsck", "--help"], terminal_width=200).stdout
    told = {int(code) for code in re.findall(r"\b(\d+):", help_text)}
    stores = {code for code in ExitCode if code.name.startswith("STORE")}
    # Nothing is written, but to a copy in the folder for temporary files.
    ways = {ExitCode.OK, ExitCode.FAILED, ExitCode.SETTINGS, *stores} - {ExitCode.STORE_FULL, ExitCode.STORE_READ_ONLY}
    assert told == ways


def test_no_advice_of_a_check_is_for_starting_a_hypervisor(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no database, and long enough to be looked at " * 100)
    for path in (tmp_path, tmp_path / "nothing", text):
        code, _, complaint = fsck(path)
        assert code is ExitCode.STORE_FOREIGN
        assert "name the ledger's file (a hypervisor also takes" in " ".join(complaint.split())
