"""`vasbus fsck`: whether a ledger is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hypervisor.finding import Finding
from hypervisor.inspection import Inspection, inspect
from protocol.codes import ExitCode
from protocol.node import StoreError
from protocol.system import SettingsError, SystemSettings, parse_system
from vasbus.output import errors, out, print_json
from vasbus.target import AsJson

SHOWN_FINDINGS = 50
"""Lines of findings for people; --json has all of them."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(fsck)


def fsck(
    ledger: Annotated[Path, typer.Argument(help="The ledger's SQLite file; its hypervisor must not be running.")],
    system: Annotated[
        Path | None, typer.Option("--system", "-f", help="Compare with this system file too.", show_default=False)
    ] = None,
    as_json_: AsJson = False,
) -> None:
    """Check a ledger and say what was found; nothing is written.

    Exit code 0: sound, or still empty; 1: not sound; 3: the system file is wrong; 6: it could not be read; 12: another
    release wrote it; 13: damaged; 14: no ledger, or no file; 15: a hypervisor has it.
    """
    settings = None if system is None else _settings(system)
    try:
        inspection = inspect(ledger, settings)
    except StoreError as error:
        errors.print(f"vasbus: {error}", style="red", highlight=False, markup=False)
        raise typer.Exit(int(error.code)) from None
    if as_json_:
        print_json(_as_json(inspection))
    else:
        _tell(inspection)
    raise typer.Exit(int(ExitCode.FAILED if inspection.faults else ExitCode.OK))


def _settings(path: Path) -> SystemSettings:
    """Raises SettingsError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the system file {path}: {error}") from None
    return parse_system(text, str(path))


def _as_json(inspection: Inspection) -> dict[str, object]:
    return {
        "ledger": str(inspection.path),
        "sound": not inspection.faults,
        "empty": inspection.is_empty,
        "schema": inspection.schema,
        "file_bytes": inspection.file_bytes,
        "log_bytes": inspection.log_bytes,
        "dropped_bytes": inspection.dropped_bytes,
        "rows": inspection.rows,
        "findings": [_finding(finding) for finding in inspection.faults],
        "remarks": [_finding(finding) for finding in inspection.remarks],
    }


def _finding(finding: Finding) -> dict[str, str]:
    return {"weight": str(finding.weight), "what": finding.what, "text": finding.text}


def _tell(inspection: Inspection) -> None:
    tables = ", ".join(f"{count} {table}" for table, count in inspection.rows.items())
    log = f", and {inspection.log_bytes} in its write-ahead log" if inspection.log_bytes else ""
    lines = [f"{inspection.path}: schema {inspection.schema}, {inspection.file_bytes} bytes{log}", f"rows: {tables}"]
    lines += [f"remark: {finding}" for finding in inspection.remarks[:SHOWN_FINDINGS]]
    lines += [f"finding: {finding}" for finding in inspection.faults[:SHOWN_FINDINGS]]
    hidden = sum(max(0, len(found) - SHOWN_FINDINGS) for found in (inspection.remarks, inspection.faults))
    if hidden:
        lines.append(f"{hidden} more: --json has all")
    lines.append(_verdict(inspection))
    for line in lines:
        out.print(line, highlight=False, markup=False)


def _verdict(inspection: Inspection) -> str:
    count = len(inspection.faults)
    if inspection.is_empty:
        return "empty: no ledger yet, a hypervisor makes one of it"
    if not count:
        return "sound: pages, tables, rows and their connections"
    found = f"not sound: {count} {'finding' if count == 1 else 'findings'}"
    if inspection.is_senseless:
        return f"{found}; the hypervisor does not start with it"
    return f"{found}; the hypervisor starts with it all the same"
