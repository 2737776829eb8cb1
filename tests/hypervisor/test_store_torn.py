"""A write-ahead log that ends anywhere: what had been committed by then is there, and nothing else. Real SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hypervisor.inspection import inspect
from hypervisor.rows import AnswerRow, CounterRow, Drop, Put, Row, Write
from hypervisor.store import LedgerStore
from tests.failures.rows import failure

TURNS = 24
HEADER_BYTES = 32
FRAME_BYTES = 24 + 4_096
"""Of SQLite's log: its header, and a page with its own header (fileformat2.html, "The WAL File Format")."""
SYNCED = 10
"""Turns after which the log of the recording is moved into the file, and begins anew."""


def turn(number: int) -> list[Write]:
    """The writes of a turn: rows that come, change and go, some of them longer than a page."""
    return [
        Put(CounterRow("window_id", number)),
        *(Put(AnswerRow("hcall", f"lp{each}", number, bytes([number]) * (700 * each))) for each in range(1, 9, 3)),
        Drop(AnswerRow, ("hcall", "lp1", number - 3)),
    ]


@dataclass(frozen=True, slots=True)
class Recording:
    """The files as they were after the last turn, and per commit the log's length with the rows by then."""

    file: bytes
    log: bytes
    commits: list[tuple[int, list[Row]]]

    def rows_at(self, length: int) -> list[Row]:
        return next(rows for end, rows in reversed(self.commits) if end <= length)

    def committed(self, length: int) -> int:
        """The bytes of a log of this length that are whole commits, or their header alone."""
        ends = [end for end, _ in self.commits if end <= length]
        return max([*ends, HEADER_BYTES if length >= HEADER_BYTES else 0])

    @contextmanager
    def cut(self, log: bytes) -> Iterator[LedgerStore]:
        """The ledger that a process finds beside such a log."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "ledger"
            path.write_bytes(self.file)
            path.with_name("ledger-wal").write_bytes(log)
            with closing(LedgerStore(path)) as store:
                yield store


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    path = tmp_path_factory.mktemp("recording") / "ledger"
    log = path.with_name("ledger-wal")
    with closing(LedgerStore(path)) as store:
        for number in range(1, SYNCED):
            store.commit(turn(number))
        store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.database.execute("PRAGMA wal_autocheckpoint = 0")
        commits = [(0, store.load())]
        for number in range(SYNCED, SYNCED + TURNS):
            store.commit(turn(number))
            commits.append((log.stat().st_size, store.load()))
        return Recording(path.read_bytes(), log.read_bytes(), commits)


def test_the_recording_has_a_log_of_many_commits(recording: Recording) -> None:
    lengths = [length for length, _ in recording.commits]
    assert lengths == sorted(set(lengths))
    assert (lengths[-1], len(recording.log) > 100 * FRAME_BYTES) == (len(recording.log), True)
    assert len({str(rows) for _, rows in recording.commits}) == TURNS + 1


@failure(
    "ledger",
    "the write-ahead log torn at any byte",
    seen="Nothing: the hypervisor starts with the last commit, which is all that it ever answered for.",
    lasts="No time.",
    kept="Every turn whose commit had returned.",
)
@given(data=st.data())
@hypothesis_settings(max_examples=150, deadline=None)
def test_a_log_that_is_cut_anywhere_is_recovered_to_the_last_commit(recording: Recording, data: st.DataObject) -> None:
    frames = st.integers(0, len(recording.log) // FRAME_BYTES).map(lambda frame: HEADER_BYTES + frame * FRAME_BYTES)
    near_a_frame = st.builds(lambda place, off: place + off, frames, st.integers(-2, 30))
    place = data.draw(st.one_of(st.integers(0, len(recording.log)), near_a_frame))
    length = min(max(0, place), len(recording.log))
    with recording.cut(recording.log[:length]) as store:
        assert store.found == store.load() == recording.rows_at(length)
        store.commit([Put(CounterRow("change", 1))])
        assert CounterRow("change", 1) in store.load()


@given(data=st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_fsck_says_how_much_of_a_cut_log_is_dropped(recording: Recording, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(recording.log)))
    assert dropped_of(recording.file, recording.log[:length]) == length - recording.committed(length)


@given(data=st.data())
@hypothesis_settings(max_examples=30, deadline=None)
def test_fsck_says_how_much_of_a_log_with_a_changed_byte_is_dropped(recording: Recording, data: st.DataObject) -> None:
    place = data.draw(st.integers(HEADER_BYTES, len(recording.log) - 1))
    wrong = bytearray(recording.log)
    wrong[place] ^= 1
    dropped = dropped_of(recording.file, bytes(wrong))
    assert dropped == len(wrong) - recording.committed(place) or is_salt(place)


@pytest.mark.parametrize("log", [b"garbage\n", bytes(HEADER_BYTES), b"\x37\x7f\x06\x82" + bytes(9_000)])
def test_fsck_says_that_a_log_which_is_none_is_dropped(recording: Recording, log: bytes) -> None:
    assert dropped_of(recording.file, log) == len(log)


def test_what_an_earlier_log_left_behind_the_last_commit_is_not_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    log = path.with_name("ledger-wal")
    with closing(LedgerStore(path)) as store:
        for number in range(1, SYNCED):
            store.commit(turn(number))
        length = log.stat().st_size
        store.database.execute("PRAGMA wal_checkpoint(RESTART)")
        store.commit([Put(CounterRow("change", 1))])
        assert log.stat().st_size == length
        file, left = path.read_bytes(), log.read_bytes()
    assert dropped_of(file, left) == 0


def dropped_of(file: bytes, log: bytes) -> int:
    """What `vasbus fsck` says is dropped of a log, also in words."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        path.write_bytes(file)
        path.with_name("ledger-wal").write_bytes(log)
        inspection = inspect(path)
    remarks = [remark.text for remark in inspection.remarks if remark.what == "write-ahead log"]
    said = f"its last {inspection.dropped_bytes} of {len(log)} bytes are no whole commit, and are dropped"
    assert remarks == ([said] if inspection.dropped_bytes else [])
    return inspection.dropped_bytes


def is_salt(place: int) -> bool:
    """Whether a byte of the log is in the first salt of a frame: one less may make it a frame of an earlier log."""
    return 8 <= (place - HEADER_BYTES) % FRAME_BYTES < 12


@given(data=st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_log_whose_tail_was_never_written_is_recovered_to_the_last_commit(
    recording: Recording, data: st.DataObject
) -> None:
    """The file had its length already, but sectors of the last frames did not reach the disk."""
    commit = data.draw(st.integers(0, TURNS - 1))
    kept = max(HEADER_BYTES, recording.commits[commit][0])
    filling = data.draw(st.sampled_from([b"\x00", b"\xff", b"\xa5"]))
    lost = data.draw(st.integers(kept, recording.commits[commit + 1][0] - 1))
    torn = recording.log[:lost] + filling * (len(recording.log) - lost)
    with recording.cut(torn) as store:
        assert store.load() == recording.rows_at(lost)


@given(data=st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_byte_that_changed_in_the_log_costs_the_commits_from_there_and_no_others(
    recording: Recording, data: st.DataObject
) -> None:
    place = data.draw(st.integers(HEADER_BYTES, len(recording.log) - 1))
    inside = (place - HEADER_BYTES) % FRAME_BYTES
    wrong = bytearray(recording.log)
    wrong[place] ^= data.draw(st.integers(1, 255))
    expected = recording.rows_at(place)
    with recording.cut(bytes(wrong)) as store:
        assert store.load() == expected, f"byte {inside} of its frame"


@given(data=st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_checkpoint_that_was_interrupted_anywhere_costs_nothing(recording: Recording, data: st.DataObject) -> None:
    """Its pages are in the log until all of them are in the file, where any of them may be old, new or torn."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        path.write_bytes(recording.file)
        path.with_name("ledger-wal").write_bytes(recording.log)
        with closing(LedgerStore(path)) as store:
            store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        moved = path.read_bytes()
    old = recording.file.ljust(len(moved), b"\x00")
    pages = len(moved) // 4_096
    torn = bytearray()
    for page in range(pages):
        split = data.draw(st.sampled_from([0, 512, 2_048, 4_096])) + page * 4_096
        torn += moved[page * 4_096 : split] + old[split : (page + 1) * 4_096]
    with Recording(bytes(torn), b"", []).cut(recording.log) as store:
        assert store.load() == recording.commits[-1][1]
