"""Every way in which a ledger cannot be had: its own exit code, and a line that says where, why and what to do."""

from __future__ import annotations

import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hypervisor.rows import AnswerRow, CounterRow, FaultRow, LedgerWindowRow, Put, Row
from hypervisor.serve import serve
from hypervisor.store import LedgerStore
from protocol.codes import ExitCode
from protocol.node import StoreError
from protocol.system import local_addresses
from tests.failures.rows import failure
from tests.hypervisor.cluster import settings
from tests.hypervisor.unusable_ledgers import (
    HOLDER,
    UNUSABLE,
    as_somebody_else,
    contents,
    killed,
    ledger,
    ledger_with_a_copied_log,
    others_may_open,
)


def refusal(path: Path) -> StoreError:
    with pytest.raises(StoreError) as failed:
        LedgerStore(path, patience_s=0.05).load()
    return failed.value


@pytest.mark.parametrize(("make", "code", "why"), UNUSABLE, ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_be_used_is_refused_with_its_own_code_and_left_as_it_is(
    tmp_path: Path, make: Callable[[Path], Path], code: ExitCode, why: str
) -> None:
    path = make(tmp_path)
    before = contents(tmp_path)
    refused = refusal(path)
    assert (refused.code, why in str(refused), str(refused).startswith(f"{path}: ")) == (code, True, True), refused
    assert contents(tmp_path) == before


KILLED = [case for case in UNUSABLE if case[0].__name__.endswith("_and_killed")]


@pytest.mark.parametrize(("make", "code", "why"), KILLED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_refused_is_left_as_it_is_where_the_temporary_folder_has_no_room_for_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path], code: ExitCode, why: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    path = make(tmp_path)
    before = contents(tmp_path)
    refused = refusal(path)
    assert (refused.code, why in str(refused)) == (code, True), refused
    assert contents(tmp_path) == before


def test_a_ledger_with_a_log_is_taken_over_where_the_temporary_folder_has_no_room_for_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    path = killed(tmp_path / "ledger", "SELECT 1")
    with closing(LedgerStore(path)) as store:
        assert store.load() == [CounterRow("window_id", 7)]
    assert [place.name for place in tmp_path.iterdir()] == ["ledger"]


@contextmanager
def files_of_at_most(limit_bytes: int) -> Iterator[None]:
    """No file can be made larger, wherever it is: as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@failure(
    "ledger",
    "with a log that a killed hypervisor left, and no room for the copy that is checked first",
    seen="The hypervisor does not start: exit code 10, and one line that says where there was no room.",
    lasts="Until there is room in the temporary folder or beside the ledger.",
    kept="The ledger and its log, byte by byte.",
)
@pytest.mark.parametrize("statement", ["SELECT 1", "CREATE TABLE songs (title TEXT)"], ids=["sound", "not ours"])
def test_a_ledger_with_a_log_and_no_room_for_a_copy_anywhere_is_left_as_it_is(tmp_path: Path, statement: str) -> None:
    path = killed(tmp_path / "ledger", statement)
    before = contents(tmp_path)
    with files_of_at_most(4_096):
        refused = refusal(path)
    assert (refused.code, contents(tmp_path)) == (ExitCode.STORE_FULL, before)
    assert all(words in str(refused) for words in (f"{path}: ", "nor beside it", "File too large", "make room"))


def test_a_ledger_with_a_log_whose_copy_nobody_may_make_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with as_somebody_else() as folder:
        path = ledger_with_a_copied_log(folder)
        before = contents(folder)
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "missing"))
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        refused = refusal(path)
        folder.chmod(stat.S_IRWXU)
        assert contents(folder) == before
    assert refused.code is ExitCode.STORE_READ_ONLY
    assert "let this user write the file and its folder" in str(refused)


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
    kept="The file and its log, byte by byte: nothing is written to what is refused.",
)
@pytest.mark.parametrize(("make", "code"), [case[:2] for case in UNUSABLE], ids=lambda value: str(value)[:20])
def test_the_hypervisor_ends_with_the_code_of_its_ledger(
    tmp_path: Path, make: Callable[[Path], Path], code: ExitCode
) -> None:
    path = make(tmp_path)
    before = contents(tmp_path)
    system = settings()
    ending = serve(system, local_addresses(system, str(tmp_path)), path)
    assert (ending.code, ending.reason.startswith(f"{path}: ")) == (code, True)
    assert contents(tmp_path) == before


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
    before = contents(tmp_path)
    system = settings()
    ending = serve(system, local_addresses(system, str(tmp_path)), path)
    assert (ending.code, nonsense in ending.reason, "vasbus fsck" in ending.reason) == (
        ExitCode.STORE_DAMAGED,
        True,
        True,
    )
    assert contents(tmp_path) == before


def test_an_older_ledger_whose_rows_make_no_sense_stays_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with closing(LedgerStore(path)) as store:
        store.commit([Put(LedgerWindowRow(9, "lp1", 2, 1, "nx0", "open", b"t", 1, 0))])
    with closing(sqlite3.connect(path)) as database, database:
        database.execute('DROP TABLE "UnitGuardRow"')
        database.execute("PRAGMA user_version = 3")
    before = contents(tmp_path)
    system = settings()
    ending = serve(system, local_addresses(system, str(tmp_path)), path)
    assert (ending.code, "token has 1 bytes" in ending.reason) == (ExitCode.STORE_DAMAGED, True)
    assert contents(tmp_path) == before


def test_without_room_for_a_copy_a_ledger_with_its_log_is_opened_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = killed(tmp_path / "ledger", "SELECT 1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with closing(LedgerStore(path)) as store:
        assert store.load() == store.found == [CounterRow("window_id", 7)]


@pytest.mark.parametrize("what", ["its log", "no log"])
def test_a_ledger_belongs_to_its_process_from_before_it_is_checked_until_it_is_closed(
    tmp_path: Path, what: str
) -> None:
    """SQLite's lock comes on top of ours; neither is lost when the other is taken."""
    path = killed(tmp_path / "ledger", "SELECT 1") if what == "its log" else ledger(tmp_path / "ledger")
    taken: list[bool] = []

    def look(_rows: list[Row], _path: Path) -> None:
        taken.append(others_may_open(path))

    with closing(LedgerStore(path, judge=look)) as store:
        taken.append(others_may_open(path))
        store.commit([Put(CounterRow("window_id", 9))])
        taken.append(others_may_open(path))
    assert taken == [False, False, False]
    assert others_may_open(path)
