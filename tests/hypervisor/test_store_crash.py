"""kill -9 of a process that writes the ledger: what was committed is there, what was not has left no trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hypervisor.rows import AnswerRow, CounterRow
from hypervisor.store import LedgerStore

WRITER = """
import sys
from pathlib import Path
from hypervisor.rows import AnswerRow, CounterRow, Put
from hypervisor.store import LedgerStore

store = LedgerStore(Path(sys.argv[1]))
turn = 0
while True:
    turn += 1
    store.commit([Put(CounterRow("window_id", turn)), *(Put(AnswerRow("hcall", "lp1", turn, bytes(100))),) * 3])
    print(turn, flush=True)
"""


@pytest.mark.parametrize("turns", [1, 7, 60])
def test_nothing_that_was_committed_is_lost(tmp_path: Path, turns: int) -> None:
    path = tmp_path / "ledger"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        for _ in range(turns):
            assert process.stdout.readline()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        told = [int(line) for line in process.communicate()[0].split()]
    committed = max([turns, *told])
    with closing(LedgerStore(path)) as store:
        rows = store.load()
    value = next(row.value for row in rows if isinstance(row, CounterRow))
    assert value in (committed, committed + 1)
    assert [row.number for row in rows if isinstance(row, AnswerRow)] == list(range(1, value + 1))
