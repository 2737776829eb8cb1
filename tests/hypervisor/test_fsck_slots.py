"""`vasbus fsck` and slots: free ones are sound, and whatever else has no processors is found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hypervisor.finding import Weight
from hypervisor.fsck import check
from hypervisor.fsck_system import compare
from hypervisor.rows import FaultRow, LedgerWindowRow, PartitionRow, Row, SessionRow
from protocol.system import parse_system
from tests.hypervisor.test_fsck import NONE, SOUND, texts

FREE = PartitionRow("lpar-01", "dedicated", 0, 0, 0, 0, 4, 4, 0)
ENDED = SessionRow("hcall", "lpar-01", "lpar", 7, 0, b"j" * 16, b"s" * 16, "local", 4714, NONE, 1)
SLOTS = parse_system(
    '[[chip]]\nnumber = 0\nunit = "nx0"\ncores = 8\n[[lpar]]\nname = "lp1"\ncores = 2\n'
    '[slots]\nname = "lpar"\ncount = 1\ncores = 1\n',
    "slots",
)


def test_a_free_slot_is_sound() -> None:
    assert texts(check([*SOUND, FREE])) == []
    assert texts(check([*SOUND, FREE, ENDED])) == []


@pytest.mark.parametrize(
    "rows",
    [[FREE, replace(ENDED, alive=1)], [replace(FREE, qos_credits=2)], [replace(FREE, mode="shared", cores=1)]],
    ids=["it has a session", "it has QoS credits", "it has the other mode's processors"],
)
def test_a_partition_without_processors_that_is_no_free_slot_is_found(rows: list[Row]) -> None:
    (found,) = check([*SOUND, *rows])
    assert str(found).startswith("PartitionRow lpar-01: it is ")
    assert found.weight is Weight.WRONG


def test_slots_fit_the_system_file_that_has_them() -> None:
    claimed = [replace(FREE, cores=1), replace(ENDED, alive=1)]
    assert compare(SLOTS, [*SOUND, FREE, ENDED]) == []
    assert compare(SLOTS, [*SOUND, *claimed]) == []


def test_what_a_start_with_another_file_makes_of_slots_is_a_remark() -> None:
    named = SLOTS.model_copy(update={"slots": None})
    assert texts(compare(named, [*SOUND, FREE])) == [
        "PartitionRow lpar-01: the system file has no such partition: its windows are closed"
    ]
    other = replace(FREE, name="lp1")
    rows = [*(row for row in SOUND if not isinstance(row, PartitionRow | LedgerWindowRow | FaultRow)), other]
    assert texts(compare(SLOTS, rows)) == [
        "PartitionRow lp1: it was a free slot; the system file names it: it gets what the file says"
    ]
    assert texts(compare(SLOTS, [*SOUND, replace(FREE, cores=1), ENDED])) == [
        "PartitionRow lpar-01: a slot without a session has processors: they go back to the system at its start"
    ]
