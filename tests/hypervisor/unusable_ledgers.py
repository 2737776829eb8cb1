"""Ledgers made by hand that no hypervisor starts with, and who else may have one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypervisor.rows import SCHEMA_VERSION, AnswerRow, CounterRow, Put
from hypervisor.store import LedgerStore
from protocol.codes import ExitCode

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


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, byte by byte: the ledger and what SQLite keeps beside it."""
    return {path.name: path.read_bytes() if path.is_file() else None for path in sorted(folder.iterdir())}


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


LEFT = """
import os, sys
from pathlib import Path
from hypervisor.rows import CounterRow, Put
from hypervisor.store import LedgerStore

store = LedgerStore(Path(sys.argv[1]))
store.commit([Put(CounterRow("window_id", 7))])
store.database.execute(sys.argv[2])
os._exit(0)
"""


def killed(path: Path, statement: str) -> Path:
    """A ledger whose last statement is in its log alone: the release that wrote it was killed."""
    subprocess.run([sys.executable, "-c", LEFT, str(path), statement], check=True)
    assert path.with_name("ledger-wal").stat().st_size
    return path


def ledger_with_a_copied_log(folder: Path) -> Path:
    """A ledger and its log as a killed hypervisor leaves them, made by this very user."""
    with closing(LedgerStore(folder / "made")) as store:
        store.commit([Put(CounterRow("window_id", 7))])
        for suffix in ("", "-wal"):
            (folder / f"ledger{suffix}").write_bytes((folder / f"made{suffix}").read_bytes())
    (folder / "made").unlink()
    return folder / "ledger"


def newer_and_killed(folder: Path) -> Path:
    return killed(folder / "ledger", f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def other_columns_and_killed(folder: Path) -> Path:
    return killed(folder / "ledger", 'ALTER TABLE "CounterRow" ADD COLUMN "unit" TEXT')


def of_another_type_and_killed(folder: Path) -> Path:
    return killed(folder / "ledger", """INSERT INTO "CounterRow" VALUES ('change', 'many')""")


def of_another_program_and_killed(folder: Path) -> Path:
    return killed(folder / "ledger", "CREATE TABLE songs (title TEXT)")


def a_log_that_is_a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "ledger-wal")
    return ledger_without_log(folder)


def a_log_that_is_a_folder(folder: Path) -> Path:
    path = ledger_without_log(folder)
    (folder / "ledger-wal").mkdir()
    return path


def ledger_without_log(folder: Path) -> Path:
    made = ledger(folder / "made")
    return made.rename(folder / "ledger")


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


def a_name_that_is_too_long(folder: Path) -> Path:
    return folder / ("ledger" * 50)


UNUSABLE = [
    (newer, ExitCode.STORE_VERSION, "written by a newer release"),
    (other_columns, ExitCode.STORE_VERSION, "its table CounterRow has the columns name, value, unit, expected name"),
    (without_a_table, ExitCode.STORE_DAMAGED, "it has no table CounterRow"),
    (of_another_type, ExitCode.STORE_DAMAGED, "CounterRow 'change': a value is not of its column's type"),
    (no_text, ExitCode.STORE_DAMAGED, "Could not decode to UTF-8"),
    (newer_and_killed, ExitCode.STORE_VERSION, "written by a newer release"),
    (other_columns_and_killed, ExitCode.STORE_VERSION, "its table CounterRow has the columns name, value, unit"),
    (of_another_type_and_killed, ExitCode.STORE_DAMAGED, "CounterRow 'change': a value is not of its column's type"),
    (of_another_program_and_killed, ExitCode.STORE_FOREIGN, "it is a database with the table songs"),
    (a_log_that_is_a_pipe, ExitCode.STORE_FOREIGN, "ledger-wal beside it is no file"),
    (a_log_that_is_a_folder, ExitCode.STORE_FOREIGN, "ledger-wal beside it is no file"),
    (damaged, ExitCode.STORE_DAMAGED, "earlier copy"),
    (cut_off, ExitCode.STORE_DAMAGED, "earlier copy"),
    (no_database, ExitCode.STORE_FOREIGN, "file is not a database"),
    (of_another_program, ExitCode.STORE_FOREIGN, "it is a database with the table songs and schema 0"),
    (with_a_strange_table, ExitCode.STORE_FOREIGN, "it is a database with the table songs"),
    (a_pipe, ExitCode.STORE_FOREIGN, "it is no file"),
    (a_folder, ExitCode.STORE_FOREIGN, "it is no file"),
    (nowhere, ExitCode.STORE, "unable to open database file"),
    (a_name_that_is_too_long, ExitCode.STORE, "File name too long"),
]


def others_may_open(path: Path) -> bool:
    """Whether another process could have the ledger now."""
    script = "import sys; from pathlib import Path; from hypervisor.store import LedgerStore; "
    script += "LedgerStore(Path(sys.argv[1]), patience_s=0.05).close()"
    return subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True).returncode == 0
