"""Whether a row of the ledger, taken alone, means something. Pure.

The values have their columns' types already; here are ranges, lengths, closed lists and what is packed into bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields

import msgpack
from pydantic import TypeAdapter, ValidationError

from hypervisor.change import Change
from hypervisor.fault import U64_BYTES, Fault
from hypervisor.finding import Finding, Weight
from hypervisor.ledger import Partition, Window
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
)  # fmt: skip
from protocol.codes import CREDIT_MAX
from protocol.link import CONSOLE, FABRIC, HCALL
from protocol.message import Endpoints, Name, Reply
from protocol.session_messages import Refused
from protocol.wire import WireError, decode

LINKS = {link.name: link for link in (HCALL, FABRIC, CONSOLE)}
TOKEN_BYTES = INCARNATION_BYTES = 16
SECRET_BYTES_MOST = 32
U8_MAX, U32_MAX, I64_MAX = 0xFF, 0xFFFF_FFFF, (1 << 63) - 1
NAME: TypeAdapter[str] = TypeAdapter(Name)
ENDPOINTS: TypeAdapter[dict[str, str]] = TypeAdapter(Endpoints)


def senseless(rows: Iterable[Row]) -> list[Finding]:
    """The rows that make no sense, each with the first reason why."""
    names: set[str] = set()
    found = []
    for row in rows:
        try:
            complaint = next(_complaints(row, names), None)
        except ValidationError as error:
            complaint = str(error.errors(include_url=False)[0]["msg"])
        except (ValueError, WireError, msgpack.UnpackException, RecursionError) as error:
            complaint = str(error) or type(error).__name__
        if complaint is not None:
            found.append(Finding(Weight.SENSELESS, label(row), complaint[:200]))
    return found


def label(row: Row) -> str:
    """A row by its table and key: `LedgerWindowRow 9`."""
    values = [getattr(row, field.name) for field in fields(row)[: row.KEY]]
    shown = " ".join(value.hex() if isinstance(value, bytes) else str(value) for value in values)
    return f"{type(row).__name__} {shown}"


def _complaints(row: Row, names: set[str]) -> Iterator[str]:
    """What is wrong with a row; may raise what its conversions raise. `names` have been found good."""
    match row:
        case PartitionRow():
            yield from _partition(row, names)
        case LedgerWindowRow():
            yield from _window(row, names)
        case SessionRow():
            yield from _session(row, names)
        case AnswerRow():
            yield from _answer(row)
        case ChangeRow():
            yield from _change(row, names)
        case FaultRow():
            yield from _fault(row)
        case UnitGuardRow():
            yield from _guard(row, names)
        case CounterRow():
            yield from _counter(row)


def _partition(row: PartitionRow, names: set[str]) -> Iterator[str]:
    Partition.from_row(row)
    yield from _named("name", row.name, names)
    yield from _in_range("cores", row.cores, 0, U32_MAX)
    yield from _in_range("hundredths", row.hundredths, 0, U32_MAX)
    yield from _in_range("qos_credits", row.qos_credits, 0, CREDIT_MAX)
    yield from _in_range("home_chip", row.home_chip, 0, U8_MAX)
    yield from _in_range("generation", row.generation, 0, I64_MAX)
    yield from _in_range("acknowledged", row.acknowledged, 0, I64_MAX)
    yield from _in_range("held", row.held, 0, 1)


def _window(row: LedgerWindowRow, names: set[str]) -> Iterator[str]:
    Window.from_row(row)
    yield from _in_range("window_id", row.window_id, 1, U32_MAX)
    yield from _named("lpar", row.lpar, names)
    yield from _named("unit", row.unit, names)
    yield from _positive("epoch", row.epoch)
    yield from _long("token", row.token, TOKEN_BYTES)
    yield from _in_range("process_id", row.process_id, 0, U32_MAX)
    yield from _in_range("fenced", row.fenced, 0, 1)


def _session(row: SessionRow, names: set[str]) -> Iterator[str]:
    yield from _link(row.link)
    for name in ("role", "name", "network"):
        yield from _named(name, getattr(row, name), names)
    yield from _positive("epoch", row.epoch)
    yield from _in_range("alive", row.alive, 0, 1)
    yield from _long("incarnation", row.incarnation, INCARNATION_BYTES)
    if len(row.secret) > SECRET_BYTES_MOST:
        yield f"secret has {len(row.secret)} bytes, expected {SECRET_BYTES_MOST} at most"
    yield from _in_range("pid", row.pid, 0, U32_MAX)
    ENDPOINTS.validate_python(msgpack.unpackb(row.endpoints))
    yield from _positive("acked_below", row.acked_below)


def _answer(row: AnswerRow) -> Iterator[str]:
    yield from _link(row.link)
    yield from _positive("number", row.number)
    body = decode([row.envelope], LINKS[row.link].down).body
    if not isinstance(body, Reply | Refused):
        yield f"{body.type} answers nothing"


def _change(row: ChangeRow, names: set[str]) -> Iterator[str]:
    Change.from_row(row, 0)
    yield from _named("lpar", row.lpar, names)
    yield from _named("console", row.console, names)
    for name in ("order", "epoch", "number"):
        yield from _positive(name, getattr(row, name))
    for name in ("generation", "total_before", "wait_ms"):
        yield from _in_range(name, getattr(row, name), 0, I64_MAX)


def _fault(row: FaultRow) -> Iterator[str]:
    Fault.from_row(row)
    yield from _in_range("function", row.function, 0, U8_MAX)
    for name in ("number", "fault_address", "csb_address"):
        yield from _long(name, getattr(row, name), U64_BYTES)


def _guard(row: UnitGuardRow, names: set[str]) -> Iterator[str]:
    yield from _named("unit", row.unit, names)
    if len(row.guard) > SECRET_BYTES_MOST:
        yield f"guard has {len(row.guard)} bytes, expected {SECRET_BYTES_MOST} at most"
    yield from _in_range("epoch", row.epoch, 0, I64_MAX)


def _counter(row: CounterRow) -> Iterator[str]:
    yield from _positive("value", row.value)


def _link(link: str) -> Iterator[str]:
    if link not in LINKS:
        yield f"{link!r} is no link of the hypervisor's; those are {', '.join(LINKS)}"


def _named(name: str, value: str, names: set[str]) -> Iterator[str]:
    if value not in names:
        try:
            NAME.validate_python(value)
        except ValidationError:
            yield f"{name} is no name: {value!r:.60}"
        names.add(value)


def _long(name: str, value: bytes, length: int) -> Iterator[str]:
    if len(value) != length:
        yield f"{name} has {len(value)} bytes, expected {length}"


def _positive(name: str, value: int) -> Iterator[str]:
    if value < 1:
        yield f"{name} is {value}, expected 1 or more"


def _in_range(name: str, value: int, least: int, most: int) -> Iterator[str]:
    if not least <= value <= most:
        yield f"{name} is {value}, expected {least} to {most}"
