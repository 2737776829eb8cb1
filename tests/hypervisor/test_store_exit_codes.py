"""Every way in which a ledger cannot be had: its own exit code, and a line that says where, why and what to do."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hypervisor.rows import SCHEMA_VERSION, AnswerRow, CounterRow, FaultRow, LedgerWindowRow, Put, Row
from hypervisor.serve import serve
from hypervisor.store import LedgerStore
from protocol.codes import ExitCode
from protocol.node import StoreError
from protocol.system import local_addresses
from tests.failures.rows import failure
from tests.hypervisor.cluster import settings

NOBODY = 65_534
HOLDER = """
import sys
from pathlib import Path
from hypervisor.store import LedgerStore

store = LedgerStore(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def ledger(path: Path) -> Path:
    """A ledger with a few pages, all of them in the file."""
    with closing(LedgerStore(path)) as store:
        store.commit([Put(CounterRow("window_id", 1))])
        store.commit([Put(AnswerRow("hcall", "lp1", number, bytes(500))) for number in range(1, 200)])
    return path


def refusal(path: Path) -> StoreError:
    with pytest.raises(StoreError) as failed:
        LedgerStore(path, patience_s=0.05).load()
    return failed.value


@contextmanager
def as_somebody_else() -> Iterator[Path]:
    """A folder of a user who is not root, whatever the tests run as."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        if os.geteuid() != 0:
            yield folder
            return
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            os.seteuid(0)


def changed(path: Path, statement: str) -> Path:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)
    return path


def newer(folder: Path) -> Path:
    return changed(ledger(folder / "ledger"), f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def other_columns(folder: Path) -> Path:
    return changed(ledger(folder / "ledger"), 'ALTER TABLE "CounterRow" ADD COLUMN "unit" TEXT')


def without_a_table(folder: Path) -> Path:
    return changed(ledger(folder / "ledger"), 'DROP TABLE "CounterRow"')


def of_another_type(folder: Path) -> Path:
    return changed(ledger(folder / "ledger"), """INSERT INTO "CounterRow" VALUES ('change', 'many')""")


def no_text(folder: Path) -> Path:
    return changed(ledger(folder / "ledger"), """INSERT INTO "CounterRow" VALUES (CAST(x'ff' AS TEXT), 1)""")


def damaged(folder: Path) -> Path:
    path = ledger(folder / "ledger")
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4_096):
        content[page * 4_096 : page * 4_096 + 64] = b"\xaa" * 64
    path.write_bytes(content)
    return path


def cut_off(folder: Path) -> Path:
    path = ledger(folder / "ledger")
    path.write_bytes(path.read_bytes()[:-5_000])
    return path


def no_database(folder: Path) -> Path:
    (folder / "ledger").write_bytes(b"not a database at all" * 100)
    return folder / "ledger"


def of_another_program(folder: Path) -> Path:
    return changed(folder / "ledger", "CREATE TABLE songs (title TEXT)")


def with_a_strange_table(folder: Path) -> Path:
    return changed(ledger(folder / "ledger"), "CREATE TABLE songs (title TEXT)")


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "ledger")
    return folder / "ledger"


def a_folder(folder: Path) -> Path:
    return folder


def nowhere(folder: Path) -> Path:
    return folder / "missing" / "ledger"


UNUSABLE = [
    (newer, ExitCode.STORE_VERSION, "written by a newer release"),
    (other_columns, ExitCode.STORE_VERSION, "its table CounterRow has the columns name, value, unit, expected name"),
    (without_a_table, ExitCode.STORE_DAMAGED, "it has no table CounterRow"),
    (of_another_type, ExitCode.STORE_DAMAGED, "CounterRow 'change': a value is not of its column's type"),
    (no_text, ExitCode.STORE_DAMAGED, "Could not decode to UTF-8"),
    (damaged, ExitCode.STORE_DAMAGED, "earlier copy"),
    (cut_off, ExitCode.STORE_DAMAGED, "earlier copy"),
    (no_database, ExitCode.STORE_FOREIGN, "file is not a database"),
    (of_another_program, ExitCode.STORE_FOREIGN, "it is a database with the table songs and schema 0"),
    (with_a_strange_table, ExitCode.STORE_FOREIGN, "it is a database with the table songs"),
    (a_pipe, ExitCode.STORE_FOREIGN, "it is no file"),
    (a_folder, ExitCode.STORE_FOREIGN, "it is no file"),
    (nowhere, ExitCode.STORE, "unable to open database file"),
]


@pytest.mark.parametrize(("make", "code", "why"), UNUSABLE, ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_be_used_is_refused_with_its_own_code_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], Path], code: ExitCode, why: str
) -> None:
    path = make(tmp_path)
    before = path.read_bytes() if path.is_file() else b""
    refused = refusal(path)
    assert (refused.code, why in str(refused), str(refused).startswith(f"{path}: ")) == (code, True, True), refused
    assert (path.read_bytes() if path.is_file() else b"") == before


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_ledger_that_may_not_be_written_is_refused_as_read_only(what: str) -> None:
    with as_somebody_else() as folder:
        path = ledger(folder / "ledger")
        place, mode = (path, stat.S_IRUSR) if what == "file" else (folder, stat.S_IRUSR | stat.S_IXUSR)
        place.chmod(mode)
        refused = refusal(path)
        folder.chmod(stat.S_IRWXU)
    assert refused.code is ExitCode.STORE_READ_ONLY
    assert "let this user write the file and its folder" in str(refused)


def test_a_ledger_that_becomes_read_only_ends_the_turn(tmp_path: Path) -> None:
    with closing(LedgerStore(tmp_path / "ledger")) as store:
        store.database.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match="nothing of this turn was answered") as failed:
            store.commit([Put(CounterRow("window_id", 2))])
    assert failed.value.code is ExitCode.STORE_READ_ONLY


def test_a_full_disk_has_its_own_code(tmp_path: Path) -> None:
    with closing(LedgerStore(tmp_path / "ledger")) as store:
        store.database.execute("PRAGMA max_page_count = 20")
        with pytest.raises(StoreError, match="make room and start again") as failed:
            store.commit([Put(AnswerRow("hcall", "lp1", number, bytes(4_000))) for number in range(1, 200)])
    assert failed.value.code is ExitCode.STORE_FULL


def test_a_ledger_that_another_process_has_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        refused = refusal(path)
    finally:
        process.kill()
        process.communicate()
    assert (refused.code, "stop the other one" in str(refused)) == (ExitCode.STORE_LOCKED, True)
    with closing(LedgerStore(path)) as store:
        assert store.load() == []


@failure(
    "ledger",
    "damaged, of a newer release, of another program, or no file at all",
    seen="The hypervisor does not start; one line says what was found and what to do, and the exit code says which.",
    lasts="Until another ledger is named.",
    kept="The file, byte by byte: nothing is written to what is refused.",
)
@pytest.mark.parametrize(("make", "code"), [case[:2] for case in UNUSABLE], ids=lambda value: str(value)[:20])
def test_the_hypervisor_ends_with_the_code_of_its_ledger(
    tmp_path: Path, make: Callable[[Path], Path], code: ExitCode
) -> None:
    path = make(tmp_path)
    system = settings()
    ending = serve(system, local_addresses(system, str(tmp_path)), path)
    assert (ending.code, ending.reason.startswith(f"{path}: ")) == (code, True)


@pytest.mark.parametrize(
    ("row", "nonsense"),
    [
        (LedgerWindowRow(9, "lp1", 2, 1, "nx0", "half-open", b"t" * 16, 1, 0), "half-open"),
        (LedgerWindowRow(9, "lp1", 2, 1, "nx0", "open", b"t", 1, 0), "token has 1 bytes"),
        (FaultRow(9, bytes(8), 2, "source", bytes(8), bytes(8), "half-fetched"), "half-fetched"),
        (FaultRow(9, bytes(8), 2, "sauce", bytes(8), bytes(8), "waiting"), "sauce"),
    ],
)
def test_a_ledger_whose_rows_make_no_sense_is_damaged(tmp_path: Path, row: Row, nonsense: str) -> None:
    path = tmp_path / "ledger"
    with closing(LedgerStore(path)) as store:
        store.commit([Put(row)])
    system = settings()
    ending = serve(system, local_addresses(system, str(tmp_path)), path)
    assert (ending.code, nonsense in ending.reason, "vasbus fsck" in ending.reason) == (
        ExitCode.STORE_DAMAGED,
        True,
        True,
    )
