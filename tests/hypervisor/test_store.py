"""The ledger on disk: all or nothing, and a clear word where it cannot be had. Real SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hypervisor.rows import (
    ROW_TYPES,
    SCHEMA_VERSION,
    AnswerRow,
    ChangeRow,
    CounterRow,
    Drop,
    DropAnswers,
    FaultRow,
    LedgerWindowRow,
    PartitionRow,
    Put,
    Row,
    SessionRow,
    UnitGuardRow,
    Write,
)
from hypervisor.store import LedgerStore
from protocol.node import StoreError
from tests.hypervisor.table_store import TableStore, key_of

ROWS: list[Row] = [
    PartitionRow("lp1", "dedicated", 2, 0, 3, 0, 7, 6, 1),
    LedgerWindowRow(9, "lp1", 2, 1, "nx0", "open", b"\x00token\xff", (1 << 32) - 1, 0),
    SessionRow("hcall", "lp1", "lpar", 2, 1, b"i" * 16, b"", "local", 4711, b"\x80", 12),
    AnswerRow("hcall", "lp1", (1 << 63) - 1, b"answer"),
    ChangeRow("lp1", 4, "cpu", -1, 7, "with_kernel", 40, "hmc-1", 3, 5, 5_000),
    FaultRow(9, b"\xff" * 8, 2, "source", b"\xff" * 8, bytes(8), "waiting"),
    UnitGuardRow("nx0", b"\xff" * 16, 3),
    CounterRow("window_id", 10),
]


@contextmanager
def opened(path: Path) -> Iterator[LedgerStore]:
    with closing(LedgerStore(path)) as store:
        yield store


def counters(path: Path) -> list[Row]:
    with opened(path) as store:
        return [row for row in store.load() if isinstance(row, CounterRow)]


def test_there_is_an_example_of_every_row() -> None:
    assert [type(row) for row in ROWS] == list(ROW_TYPES)


def test_every_row_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger") as store:
        store.commit([Put(row) for row in ROWS])
        assert store.load() == ROWS
    with opened(tmp_path / "ledger") as store:
        assert store.load() == ROWS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_row_is_replaced_and_dropped_by_its_key(tmp_path: Path, row: Row) -> None:
    with opened(tmp_path / "ledger") as store:
        last = fields(row)[-1].name
        old = getattr(row, last)
        other = replace(row, **{last: old * 0 if old else 1})
        store.commit([Put(other), Put(row)])
        assert store.load() == [row]
        store.commit([Drop(type(row), key_of(row))])
        assert store.load() == []


def test_a_ledger_is_written_as_durably_as_sqlite_can(tmp_path: Path) -> None:
    with opened(tmp_path / "ledger") as store:
        assert store.database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store.database.execute("PRAGMA synchronous").fetchone() == (2,)


texts = st.sampled_from(["a", "b"])
small = st.integers(0, 3)
writes = st.one_of(
    st.builds(Put, st.builds(AnswerRow, texts, texts, small, st.binary(max_size=3))),
    st.builds(Put, st.builds(CounterRow, texts, small)),
    st.builds(Drop, st.just(CounterRow), st.tuples(texts)),
    st.builds(Drop, st.just(AnswerRow), st.tuples(texts, texts, small)),
    st.builds(DropAnswers, texts, texts, small),
)


@given(st.lists(st.lists(writes, max_size=8), max_size=5))
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_store_keeps_what_a_table_in_memory_keeps(tmp_path: Path, turns: list[list[Write]]) -> None:
    path = tmp_path / "ledger"
    path.unlink(missing_ok=True)
    table = TableStore()
    with opened(path) as store:
        for turn in turns:
            store.commit(turn)
            table.commit(turn)
        assert store.load() == table.rows()


# All or nothing.


def test_a_commit_that_fails_halfway_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with opened(path) as store:
        store.commit([Put(CounterRow("window_id", 1))])
        with pytest.raises(StoreError, match="could not write"):
            store.commit([Put(CounterRow("window_id", 2)), Put(CounterRow("change", 1 << 70))])
        assert store.load() == [CounterRow("window_id", 1)]
        store.commit([Put(CounterRow("window_id", 3))])
    assert counters(path) == [CounterRow("window_id", 3)]


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with opened(path) as store:
        store.commit([Put(CounterRow("window_id", 1))])
        store.database.execute("PRAGMA max_page_count = 30")
        full: list[object] = [Put(AnswerRow("hcall", "lp1", number, b"x" * 4_000)) for number in range(200)]
        with pytest.raises(StoreError, match="full") as failure:
            store.commit([Put(CounterRow("window_id", 2)), *full])
        assert str(path) in str(failure.value)
    with opened(path) as store:
        assert store.load() == [CounterRow("window_id", 1)]


def test_a_ledger_that_has_become_read_only_is_said(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with opened(path) as store:
        store.database.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match="readonly"):
            store.commit([Put(CounterRow("window_id", 2))])
    assert counters(path) == []


# Files that are no ledger of ours.


def test_a_newer_ledger_is_refused_in_clear_words(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with opened(path) as store:
        store.commit([Put(row) for row in ROWS])
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreError, match="written by a newer release") as failure:
        LedgerStore(path)
    assert str(path) in str(failure.value)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
        assert database.execute('SELECT count(*) FROM "CounterRow"').fetchone() == (1,)


def test_a_ledger_of_the_first_release_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    older = [row for row in ROWS if not isinstance(row, FaultRow)]
    with opened(path) as store:
        store.commit([Put(row) for row in older])
    with closing(sqlite3.connect(path)) as database:
        database.execute('DROP TABLE "FaultRow"')
        database.execute("PRAGMA user_version = 1")
    with opened(path) as store:
        assert store.load() == older
        store.commit([Put(row) for row in ROWS])
        assert store.load() == ROWS
        assert store.database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_ledger_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with closing(sqlite3.connect(path)) as database:
        database.execute('CREATE TABLE "CounterRow" (name TEXT PRIMARY KEY, value INTEGER, extra INTEGER)')
    with pytest.raises(StoreError, match="CounterRow"):
        LedgerStore(path)


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\x07" * 4_096])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=str(path)):
        LedgerStore(path)
    assert path.read_bytes() == content


def test_a_damaged_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with opened(path) as store:
        answers = [Put(AnswerRow("hcall", "lp1", number, bytes(500))) for number in range(200)]
        store.commit(answers)
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4_096):
        content[page * 4_096 : page * 4_096 + 64] = b"\xaa" * 64
    path.write_bytes(content)
    with pytest.raises(StoreError, match=str(path)):
        LedgerStore(path).load()


@pytest.mark.parametrize("place", ["missing/ledger", "."])
def test_a_place_that_cannot_hold_a_ledger_is_said(tmp_path: Path, place: str) -> None:
    with pytest.raises(StoreError, match="could not open"):
        LedgerStore(tmp_path / place)


def test_a_ledger_belongs_to_one_process(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with opened(path), pytest.raises(StoreError, match="another process"):
        LedgerStore(path, patience_s=0.05)
    with opened(path) as store:
        assert store.load() == []
