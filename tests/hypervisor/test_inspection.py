"""A ledger file beside its system file, as `vasbus fsck` looks at it: read alone, and never written."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hypervisor import ledger_files
from hypervisor.finding import Finding, Weight
from hypervisor.fsck_system import compare
from hypervisor.inspection import inspect
from hypervisor.rows import CounterRow, PartitionRow, Put, Row
from hypervisor.store import LedgerStore
from protocol.codes import CreditType, ExitCode
from protocol.node import StoreError
from protocol.system import SystemSettings
from tests.hypervisor.cluster import Cluster, settings
from tests.hypervisor.test_fsck import IDS, LP1, SOUND, WINDOW, with_change
from tests.hypervisor.unusable_ledgers import (
    HOLDER,
    UNUSABLE,
    as_somebody_else,
    nowhere,
    others_may_open,
)


def texts(found: list[Finding]) -> list[str]:
    return [str(finding) for finding in found]


def remarks(system: SystemSettings, rows: Sequence[Row]) -> list[str]:
    """What a comparison says; it says nothing else."""
    found = compare(system, rows)
    assert {finding.weight for finding in found} <= {Weight.REMARK}
    return texts(found)


def ledger(folder: Path) -> Path:
    """A sound ledger whose last turn is in its write-ahead log, as `kill -9` leaves it."""
    live = folder / "live"
    path = folder / "ledger"
    with closing(LedgerStore(live)) as store:
        store.commit([Put(row) for row in SOUND if row is not IDS])
        store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.commit([Put(IDS)])
        for suffix in ("", "-wal"):
            path.with_name(path.name + suffix).write_bytes(live.with_name(live.name + suffix).read_bytes())
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_killed_hypervisors_ledger_is_read_with_its_log_and_left_as_it_is(tmp_path: Path) -> None:
    path = ledger(tmp_path)
    before = contents(tmp_path)
    inspection = inspect(path)
    assert (inspection.findings, inspection.schema) == ([], 4)
    assert inspection.rows == {
        "PartitionRow": 1, "LedgerWindowRow": 1, "SessionRow": 3, "AnswerRow": 1, "ChangeRow": 3, "FaultRow": 1,
        "UnitGuardRow": 1, "CounterRow": 3,
    }  # fmt: skip
    assert (inspection.file_bytes, inspection.log_bytes) == (len(before["ledger"]), len(before["ledger-wal"]))
    assert contents(tmp_path) == before


def test_without_its_log_the_same_ledger_lacks_the_last_turn(tmp_path: Path) -> None:
    path = ledger(tmp_path)
    path.with_name("ledger-wal").unlink()
    found = inspect(path).faults
    assert texts(found) == ["LedgerWindowRow 9: the next window's id is 1: it would be used twice"]


def test_a_ledger_that_may_only_be_read_is_checked_all_the_same() -> None:
    with as_somebody_else() as folder:
        path = ledger(folder)
        path.chmod(stat.S_IRUSR)
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
        assert inspect(path).findings == []
        folder.chmod(stat.S_IRWXU)


def test_a_ledger_of_the_first_release_keeps_its_schema(tmp_path: Path) -> None:
    path = ledger(tmp_path)
    with closing(sqlite3.connect(path)) as database:
        database.execute('DROP TABLE "FaultRow"')
        database.execute('DROP TABLE "UnitGuardRow"')
        database.execute("PRAGMA user_version = 1")
    assert (inspect(path).schema, inspect(path).findings) == (1, [])
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize(
    ("make", "code"), [case[:2] for case in UNUSABLE], ids=lambda value: getattr(value, "__name__", "")
)
def test_what_the_hypervisor_refuses_is_refused_with_the_same_code(
    tmp_path: Path, make: Callable[[Path], Path], code: ExitCode
) -> None:
    path = make(tmp_path)
    with pytest.raises(StoreError, match=str(path)) as refused:
        inspect(path)
    # A hypervisor would have to make a ledger there; for a check nothing is there.
    assert refused.value.code is (ExitCode.STORE_FOREIGN if make is nowhere else code)


@contextmanager
def holder(path: Path) -> Iterator[None]:
    """Another process has the ledger."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield
    finally:
        process.kill()
        process.communicate()


def test_no_hypervisor_starts_with_a_ledger_while_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the first of its files: a lock of POSIX is lost with any descriptor of the file that is closed."""
    path = ledger(tmp_path)
    tried: list[bool] = []

    named = ledger_files.beside

    def watched(ledger: Path, suffix: str) -> Path:
        tried.append(others_may_open(path))
        return named(ledger, suffix)

    monkeypatch.setattr(ledger_files, "beside", watched)
    before = contents(tmp_path)
    assert inspect(path).findings == []
    assert (len(tried) > len(ledger_files.SUFFIXES), any(tried)) == (True, False)
    assert contents(tmp_path) == before
    assert others_may_open(path)


def test_a_running_hypervisors_ledger_is_left_alone(tmp_path: Path) -> None:
    path = ledger(tmp_path)
    with holder(path), pytest.raises(StoreError, match="stop the hypervisor first") as refused:
        inspect(path)
    assert refused.value.code is ExitCode.STORE_LOCKED
    assert inspect(path).findings == []


# Beside a system file.


def test_a_ledger_and_its_own_system_file_agree(cluster: Cluster) -> None:
    for lpar in cluster.lpars.values():
        lpar.open_window()
    assert compare(cluster.system, cluster.store.rows()) == []


def test_windows_beyond_the_target_are_a_remark(cluster: Cluster) -> None:
    lp1 = cluster.lpars["lp1"]
    for _ in range(25):
        lp1.open_window()
    cluster.qos("lp1", 2)
    for _ in range(2):
        lp1.open_window(CreditType.QOS)
    cluster.dlpar("lp1", -1)
    cluster.qos("lp1", 1)
    assert remarks(cluster.system, cluster.store.rows()) == [
        "partition lp1: 2 qos windows, 1 credits assigned: its kernel is to close 1",
        "partition lp1: 25 default windows, 19 credits assigned: its kernel is to close 6",
    ]


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (
            settings(lpar=[{"name": "lp2", "cores": 2}]),
            ["PartitionRow lp1: the system file has no such partition: its windows are closed"],
        ),
        (
            settings(chip=[{"number": 0, "unit": "nx7", "cores": 8}], lpar=[{"name": "lp1", "cores": 2}]),
            ["LedgerWindowRow 9: the system file has no NX unit nx0: its window is gone with it"],
        ),
        (
            settings(
                chip=[{"number": 0, "unit": "nx0", "cores": 1}],
                lpar=[{"name": "lp1", "mode": "shared", "hundredths": 5}],
            ),
            [
                "processors: the partitions have 200 hundredths of a processor, the chips 100: "
                "none can be added before some are removed"
            ],
        ),
    ],
    ids=["partition", "unit", "processors"],
)
def test_a_system_file_that_has_changed_is_a_remark(system: SystemSettings, expected: list[str]) -> None:
    assert remarks(system, SOUND) == expected


def test_more_qos_credits_than_the_system_file_has_are_a_remark() -> None:
    rows = with_change(LP1, qos_credits=30)
    assert remarks(settings(qos_credits=29), rows) == [
        "QoS credits: the partitions have 30 QoS credits, the system 29: none can be given before some are taken back"
    ]


def test_more_windows_than_a_unit_may_have_are_a_remark() -> None:
    windows = [replace(WINDOW, window_id=number, token=number.to_bytes(16)) for number in (1, 2)]
    system = settings(limits={"windows_per_unit": 2})
    assert remarks(system, [*SOUND, *windows]) == ["NX unit nx0: it has 3 windows; the system file allows 2"]


def test_rows_that_make_no_sense_are_not_compared_with_a_system(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    with closing(LedgerStore(path)) as store:
        store.commit([Put(PartitionRow("lp1", "rented", 2, 0, 0, 0, 0, 0, 0)), Put(CounterRow("window_id", 1))])
    inspection = inspect(path, settings(lpar=[{"name": "lp2", "cores": 2}]))
    assert texts(inspection.findings) == ["PartitionRow lp1: 'rented' is not a valid ProcessorMode"]
    assert inspection.is_senseless
