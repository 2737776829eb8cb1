"""`docs/codes.md`, printed from the tables themselves."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum

from protocol.codes import CODE_TABLES, REASON_ERRNO, KernelReason
from protocol.refusals import RefusalCode

HEAD = """# Codes

Printed by `make docs` from `protocol/codes.py` and `protocol/refusals.py`; a test fails when this copy is stale.
"""


def codes_page() -> str:
    """The whole page, in Markdown."""
    return "\n".join([HEAD, *(_table(table) for table in CODE_TABLES), _refusals()])


def _table(table: type[Enum]) -> str:
    title = f"## {table.__name__}\n\n{(table.__doc__ or '').strip()}\n"
    lines = [title, "| value | name | meaning |", "| --- | --- | --- |"]
    for member in table:
        meaning = str(getattr(member, "meaning", ""))
        lines.append(f"| {_value(member)} | `{member.name}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _value(member: Enum) -> str:
    if isinstance(member, KernelReason):
        return f"`{member.value}` (errno {REASON_ERRNO.get(member, 'by the code')})"
    if isinstance(member, IntEnum):
        return str(int(member)) if -100 < int(member) < 0x100 or int(member) > 9000 else hex(int(member))
    return f"`{member.value}`"


def _refusals() -> str:
    lines = [
        "## Refusals on the bus\n",
        "A definite refusal says that the message was not carried out.",
        "One that says when to ask again (`after_ms`) is not definite, whatever its code.",
        "After an indefinite one, repeat it with the same number.\n",
        *refusal_rows(RefusalCode),
    ]
    return "\n".join(lines) + "\n"


def refusal_rows(codes: Iterable[RefusalCode]) -> list[str]:
    """The error table of the bus, in Markdown."""
    return [
        "| name | definite | meaning | what to do |",
        "| --- | --- | --- | --- |",
        *(
            f"| `{code.value}` | {'yes' if code.definite else 'no'} | {code.meaning} | {code.advice} |"
            for code in codes
        ),
    ]
