"""`vasbus fsck`: each thing that it finds, made by hand, and what it says of sound ledgers and of no ledgers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hypervisor.finding import Finding, Weight
from hypervisor.fsck import check
from hypervisor.rows import (
    AnswerRow,
    ChangeRow,
    CounterRow,
    FaultRow,
    LedgerWindowRow,
    PartitionRow,
    Row,
    SessionRow,
    UnitGuardRow,
)
from protocol.codes import HcallCode
from protocol.fabric_messages import UnitNoted
from protocol.hcall_messages import HcallStatus
from protocol.session_messages import Probe
from protocol.wire import Envelope, encode

ANSWER = encode(Envelope(HcallStatus(code=HcallCode.H_SUCCESS)))[0]
NONE = b"\x80"
LP1 = PartitionRow("lp1", "dedicated", 2, 0, 0, 0, 3, 2, 0)
WINDOW = LedgerWindowRow(9, "lp1", 2, 1, "nx0", "open", b"t" * 16, 77, 0)
LPAR = SessionRow("hcall", "lp1", "lpar", 2, 1, b"i" * 16, b"s" * 16, "local", 4711, NONE, 12)
UNIT = SessionRow("fabric", "nx0", "nxunit", 1, 1, b"i" * 16, b"s" * 16, "local", 4712, NONE, 1)
CONSOLE = SessionRow("hmc", "hmc-1", "hmc", 3, 1, b"i" * 16, b"s" * 16, "local", 4713, NONE, 5)
KEPT = AnswerRow("hcall", "lp1", 12, ANSWER)
CHANGE = ChangeRow("lp1", 4, "cpu", -1, 3, "with_kernel", 40, "hmc-1", 3, 5, 5_000)
WAITING = ChangeRow("lp1", 5, "qos", 3, 0, "queued", 0, "hmc-1", 3, 6, 5_000)
LATE = ChangeRow("lp1", 2, "cpu", 1, 2, "expired", 40, "hmc-1", 3, 2, 5_000)
FAULT = FaultRow(9, bytes(7) + b"\x01", 2, "source", bytes(8), bytes(8), "waiting")
GUARD = UnitGuardRow("nx0", b"\x0f" * 2, 1)
IDS, CHANGES, EPOCHS = CounterRow("window_id", 10), CounterRow("change", 6), CounterRow("console_epoch", 3)
SOUND: tuple[Row, ...] = (
    LP1, WINDOW, LPAR, UNIT, CONSOLE, KEPT, CHANGE, WAITING, LATE, FAULT, GUARD, IDS, CHANGES, EPOCHS,
)  # fmt: skip


def texts(found: Sequence[Finding]) -> list[str]:
    return [str(finding) for finding in found]


def without(row: Row) -> list[Row]:
    return [other for other in SOUND if other is not row]


def with_change(row: Row, **changes: Any) -> list[Row]:
    """The sound ledger with one row otherwise."""
    return [replace(row, **changes) if other is row else other for other in SOUND]


def number(value: int) -> bytes:
    return value.to_bytes(8)


def test_a_sound_ledger_is_sound() -> None:
    assert texts(check(SOUND)) == []


def test_a_ledger_without_rows_is_sound() -> None:
    assert check([]) == []


SENSELESS = [
    (LP1, {"mode": "rented"}, "'rented' is not a valid ProcessorMode"),
    (LP1, {"name": "lp 1"}, "name is no name: 'lp 1'"),
    (LP1, {"cores": -1}, "cores is -1, expected 0 to 4294967295"),
    (LP1, {"hundredths": 1 << 40}, "hundredths is 1099511627776, expected 0 to 4294967295"),
    (LP1, {"qos_credits": 65_536}, "qos_credits is 65536, expected 0 to 65535"),
    (LP1, {"home_chip": 256}, "home_chip is 256, expected 0 to 255"),
    (LP1, {"generation": -1}, "generation is -1, expected 0 to 9223372036854775807"),
    (LP1, {"acknowledged": -1}, "acknowledged is -1, expected 0 to 9223372036854775807"),
    (LP1, {"held": 2}, "held is 2, expected 0 to 1"),
    (WINDOW, {"state": "half-open"}, "'half-open' is not a valid WindowPhase"),
    (WINDOW, {"credit_type": 7}, "7 is not a valid CreditType"),
    (WINDOW, {"window_id": 0}, "window_id is 0, expected 1 to 4294967295"),
    (WINDOW, {"window_id": 1 << 32}, "window_id is 4294967296, expected 1 to 4294967295"),
    (WINDOW, {"lpar": ""}, "lpar is no name: ''"),
    (WINDOW, {"unit": "../nx0"}, "unit is no name: '../nx0'"),
    (WINDOW, {"epoch": 0}, "epoch is 0, expected 1 or more"),
    (WINDOW, {"token": b"short"}, "token has 5 bytes, expected 16"),
    (WINDOW, {"process_id": 1 << 32}, "process_id is 4294967296, expected 0 to 4294967295"),
    (WINDOW, {"fenced": 2}, "fenced is 2, expected 0 to 1"),
    (LPAR, {"link": "paste"}, "'paste' is no link of the hypervisor's; those are hcall, fabric, hmc"),
    (LPAR, {"role": "l par"}, "role is no name: 'l par'"),
    (LPAR, {"network": "\n"}, "network is no name: '\\n'"),
    (LPAR, {"epoch": 0}, "epoch is 0, expected 1 or more"),
    (LPAR, {"alive": 2}, "alive is 2, expected 0 to 1"),
    (LPAR, {"incarnation": b""}, "incarnation has 0 bytes, expected 16"),
    (LPAR, {"secret": bytes(33)}, "secret has 33 bytes, expected 32 at most"),
    (LPAR, {"pid": -1}, "pid is -1, expected 0 to 4294967295"),
    (LPAR, {"acked_below": 0}, "acked_below is 0, expected 1 or more"),
    (LPAR, {"endpoints": b""}, "Unpack failed: incomplete input"),
    (LPAR, {"endpoints": b"\x80\x80"}, "unpack(b) received extra data."),
    (LPAR, {"endpoints": b"\xc1"}, "FormatError"),
    (LPAR, {"endpoints": b"\x91" * 2_000 + b"\x80"}, "StackError"),
    (LPAR, {"endpoints": b"\xc0"}, "Input should be a valid dictionary"),
    (LPAR, {"endpoints": b"\x81\xa1a\xa1b"}, "String should match pattern '^(tcp|ipc|inproc)://.{1,200}$'"),
    (KEPT, {"link": "device"}, "'device' is no link of the hypervisor's; those are hcall, fabric, hmc"),
    (KEPT, {"number": 0}, "number is 0, expected 1 or more"),
    (KEPT, {"envelope": b"\xc1"}, "garbage: expected a msgpack map, came FormatError in 1 bytes"),
    (CHANGE, {"kind": "weight"}, "'weight' is not a valid ConfigurationKind"),
    (CHANGE, {"state": "forgotten"}, "'forgotten' is not a valid ChangeState"),
    (CHANGE, {"lpar": "lp/1"}, "lpar is no name: 'lp/1'"),
    (CHANGE, {"console": "?"}, "console is no name: '?'"),
    (CHANGE, {"order": 0}, "order is 0, expected 1 or more"),
    (CHANGE, {"epoch": 0}, "epoch is 0, expected 1 or more"),
    (CHANGE, {"number": 0}, "number is 0, expected 1 or more"),
    (CHANGE, {"generation": -1}, "generation is -1, expected 0 to 9223372036854775807"),
    (CHANGE, {"total_before": -1}, "total_before is -1, expected 0 to 9223372036854775807"),
    (CHANGE, {"wait_ms": -1}, "wait_ms is -1, expected 0 to 9223372036854775807"),
    (FAULT, {"operand": "sauce"}, "'sauce' is not a valid Operand"),
    (FAULT, {"state": "half-fetched"}, "'half-fetched' is not a valid FaultState"),
    (FAULT, {"function": 256}, "function is 256, expected 0 to 255"),
    (FAULT, {"number": b""}, "number has 0 bytes, expected 8"),
    (FAULT, {"fault_address": bytes(9)}, "fault_address has 9 bytes, expected 8"),
    (FAULT, {"csb_address": bytes(7)}, "csb_address has 7 bytes, expected 8"),
    (GUARD, {"unit": ""}, "unit is no name: ''"),
    (GUARD, {"guard": bytes(33)}, "guard has 33 bytes, expected 32 at most"),
    (GUARD, {"epoch": -1}, "epoch is -1, expected 0 to 9223372036854775807"),
    (IDS, {"value": 0}, "value is 0, expected 1 or more"),
]


def case(value: object) -> str | None:
    if isinstance(value, Row):
        return type(value).__name__
    return next(iter(value)) if isinstance(value, dict) else ""


@pytest.mark.parametrize(("row", "changes", "complaint"), SENSELESS, ids=case)
def test_a_row_that_makes_no_sense_is_found(row: Row, changes: dict[str, Any], complaint: str) -> None:
    found = check(with_change(row, **changes))
    assert [(finding.weight, finding.text) for finding in found] == [(Weight.SENSELESS, complaint)]
    assert found[0].what.startswith(type(row).__name__)


WRONG: list[tuple[list[Row], list[str]]] = [
    (with_change(LP1, cores=0), ["PartitionRow lp1: it is dedicated and has 0 cores and 0 hundredths"]),
    (with_change(LP1, hundredths=50), ["PartitionRow lp1: it is dedicated and has 2 cores and 50 hundredths"]),
    (with_change(LP1, mode="shared"), ["PartitionRow lp1: it is shared and has 2 cores and 0 hundredths"]),
    (
        with_change(LP1, acknowledged=4),
        ["PartitionRow lp1: its kernel has acknowledged generation 4, and there are only 3"],
    ),
    (
        with_change(IDS, value=9),
        ["LedgerWindowRow 9: the next window's id is 9: it would be used twice"],
    ),
    (without(IDS), ["LedgerWindowRow 9: the next window's id is 1: it would be used twice"]),
    (
        without(LP1),
        [
            "LedgerWindowRow 9: there is no partition lp1",
            "SessionRow hcall lp1: it is alive, and there is no such partition",
            "ChangeRow lp1 4: there is no partition lp1",
            "ChangeRow lp1 5: there is no partition lp1",
            "ChangeRow lp1 2: there is no partition lp1",
        ],
    ),
    (
        without(UNIT),
        [
            "LedgerWindowRow 9: no NX unit nx0 was ever here",
            "UnitGuardRow nx0 0f0f: nx0 never had a session with epoch 1",
        ],
    ),
    (with_change(GUARD, epoch=2), ["UnitGuardRow nx0 0f0f: nx0 never had a session with epoch 2"]),
    (with_change(WINDOW, fenced=1), ["LedgerWindowRow 9: it is fenced and open; a fenced window is closing"]),
    (with_change(WINDOW, process_id=0), ["LedgerWindowRow 9: it is open and bound to no process"]),
    (with_change(WINDOW, epoch=3), ["LedgerWindowRow 9: lp1 never had a session with epoch 3"]),
    (
        with_change(WINDOW, epoch=1),
        ["LedgerWindowRow 9: the session of lp1 with epoch 1 is over, and it is not fenced"],
    ),
    (
        with_change(LPAR, alive=0),
        [
            "LedgerWindowRow 9: the session of lp1 with epoch 2 is over, and it is not fenced",
            "AnswerRow hcall lp1 12: it belongs to no live session",
        ],
    ),
    (
        without(LPAR),
        [
            "LedgerWindowRow 9: lp1 never had a session with epoch 2",
            "AnswerRow hcall lp1 12: it belongs to no live session",
        ],
    ),
    ([*SOUND, replace(WINDOW, window_id=8)], ["LedgerWindowRow 8: it has the token of window 9"]),
    (with_change(LPAR, role="hmc"), ["SessionRow hcall lp1: the role hmc has no sessions on the link hcall"]),
    (with_change(CONSOLE, alive=0), ["SessionRow hmc hmc-1: it is over, and its row was kept"]),
    (
        with_change(CONSOLE, epoch=4),
        ["SessionRow hmc hmc-1: epoch 4 is above the last one that was given to a console"],
    ),
    (with_change(KEPT, number=11), ["AnswerRow hcall lp1 11: its caller can ask for 12 and 63 more"]),
    (with_change(KEPT, number=76), ["AnswerRow hcall lp1 76: its caller can ask for 12 and 63 more"]),
    (with_change(KEPT, name="lp2"), ["AnswerRow hcall lp2 12: it belongs to no live session"]),
    (
        with_change(CHANGE, order=6),
        [
            "ChangeRow lp1 6: the next change's number is 6: it would be used twice",
            "partition lp1: a change is with the kernel that is not the first in its queue",
            "partition lp1: changes wait, and none is with the kernel",
        ],
    ),
    (with_change(CHANGE, generation=2), ["ChangeRow lp1 4: its generation is 2, its partition's 3"]),
    (with_change(LATE, generation=4), ["ChangeRow lp1 2: its generation 4 is above its partition's 3"]),
    (with_change(WAITING, generation=3), ["ChangeRow lp1 5: it waits, and has generation 3 already"]),
    (with_change(LATE, epoch=4), ["ChangeRow lp1 2: no console ever had the epoch 4"]),
    (without(CHANGE), ["partition lp1: changes wait, and none is with the kernel"]),
    (
        with_change(WAITING, state="with_kernel", generation=3),
        ["partition lp1: a change is with the kernel that is not the first in its queue"],
    ),
    (
        [*SOUND, replace(LATE, order=1)],
        ["partition lp1: 2 expired changes of processors are kept, expected the newest"],
    ),
    (
        [*SOUND, *(replace(LATE, order=order, kind="qos") for order in (1, 3))],
        ["partition lp1: 2 expired changes of QoS credits are kept, expected the newest"],
    ),
    (
        [*SOUND, *(replace(LATE, order=order, kind="migration") for order in (1, 3))],
        ["partition lp1: 2 expired changes of its place are kept, expected the newest"],
    ),
    (with_change(FAULT, window_id=8), ["FaultRow 8 0000000000000001: there is no window 8"]),
    (
        [*without(FAULT), *(replace(FAULT, number=number(paste)) for paste in range(9))],
        ["window 9: 9 faults are kept; the limit is 8"],
    ),
    (
        [*without(FAULT), *(replace(FAULT, number=number(paste), state="settled") for paste in range(2))],
        ["window 9: 2 settled faults are kept, expected the newest alone"],
    ),
    (
        [*SOUND, CounterRow("credits", 5)],
        ["CounterRow credits: there is no such counter; there are window_id, change, console_epoch"],
    ),
]


@pytest.mark.parametrize(("rows", "expected"), WRONG, ids=[found[0].split(":")[0] for _, found in WRONG])
def test_rows_that_do_not_fit_together_are_found(rows: list[Row], expected: list[str]) -> None:
    found = check(rows)
    assert texts(found) == expected
    assert {finding.weight for finding in found} == {Weight.WRONG}


def test_an_answer_to_an_nx_unit_is_found() -> None:
    noted = replace(KEPT, link="fabric", name="nx0", envelope=encode(Envelope(UnitNoted()))[0], number=1)
    assert texts(check([*SOUND, noted])) == ["AnswerRow fabric nx0 1: answers to NX units are not kept"]


def test_what_answers_nothing_is_no_answer() -> None:
    probe = encode(Envelope(Probe()))[0]
    assert texts(check(with_change(KEPT, envelope=probe))) == ["AnswerRow hcall lp1 12: probe answers nothing"]


def test_more_waiting_changes_than_the_limit_are_found() -> None:
    queue = [replace(WAITING, order=order) for order in range(6, 6 + 64)]
    rows = [*without(CHANGES), *queue, replace(CHANGES, value=100)]
    assert texts(check(rows)) == ["partition lp1: 66 changes wait; the limit is 64"]


def test_more_windows_than_a_pool_can_have_are_found() -> None:
    windows = [replace(WINDOW, window_id=number, token=number.to_bytes(16)) for number in range(1, 65_537)]
    rows = [*(row for row in SOUND if row not in (WINDOW, IDS)), *windows, replace(IDS, value=70_000)]
    assert texts(check(rows)) == ["partition lp1: 65536 default windows; a pool has 65535 credits at most"]
