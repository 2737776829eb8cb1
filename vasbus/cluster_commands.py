"""`vasbus up`, `down`, `status`, `credits`, `windows`, `logs`: a cluster and what one sees of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from deploy.cluster import ClusterError, ClusterFolder, StartStopped
from deploy.launcher import down as stop_cluster
from deploy.launcher import up as start_cluster
from protocol.alarm import Alarm
from protocol.codes import CreditType
from protocol.console_messages import LparStatus
from protocol.message import LOCAL_NETWORK
from vasbus.output import errors, out, print_json, table
from vasbus.survey import Survey, as_json, not_asked, pool, shown_state, slots_line, survey
from vasbus.target import DEFAULT_DIR, AsJson, Dir, Hmc, Network, console, elsewhere
from vasbus.words import counted, processors

LOG_POLL_S = 0.2
CREDIT_HEADINGS = ("lpar", "state", "processors", "type", "total", "used", "available", "target", "in use", "excess")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (up, down, status, credits, windows, logs):
        app.command()(command)


def up(
    system: Annotated[
        Path | None,
        typer.Option("-f", "--file", help="The system file; else that of the folder, else the sample."),
    ] = None,
    folder: Dir = DEFAULT_DIR,
    as_json_: AsJson = False,
) -> None:
    """Start a cluster on this machine in the background. Safe to repeat: it starts what is missing.

    Ctrl-C or SIGTERM before all is running stops what was started, in order; a second time at once.
    """
    with closing(Alarm()) as alarm, errors.status("starting") as spinner:
        alarm.catch_signals()
        try:
            started = start_cluster(ClusterFolder(folder), system, spinner.update, lambda: alarm.stops)
        except StartStopped:
            alarm.ignore_signals()
            raise
        finally:
            alarm.release_signals()
    if as_json_:
        status(folder, "", LOCAL_NETWORK, True)
        return
    out.print(
        f"{started.system}: hypervisor, {counted(len(started.units), 'NX unit')} and "
        f"{counted(len(started.lpars), 'partition')} are running "
        f"(state in {folder.absolute()})",
        highlight=False,
    )


def down(
    folder: Dir = DEFAULT_DIR,
    keep_ledger: Annotated[
        bool, typer.Option("--keep-ledger", help="Keep the ledger: the next `up` goes on with its processors.")
    ] = False,
    as_json_: AsJson = False,
) -> None:
    """Stop the cluster: no process and no socket stays behind, also after a crash.

    Each process has the partitions' deadline (kernel_deadline_ms) to wind up, then it is killed. Ctrl-C or SIGTERM
    does not end this command; a second one kills what still runs.
    """
    with closing(Alarm()) as alarm:
        alarm.catch_signals()
        try:
            stopped = stop_cluster(
                ClusterFolder(folder),
                lambda text: errors.print(text, highlight=False),
                keep_ledger=keep_ledger,
                stops=lambda: alarm.stops,
            )
        finally:
            alarm.release_signals()
    if as_json_:
        print_json({"stopped": stopped})
    else:
        processes = "1 process" if stopped == 1 else f"{stopped} processes"
        out.print(f"stopped {processes}" if stopped else "nothing was running", highlight=False)


def status(
    folder: Dir = DEFAULT_DIR, hmc: Hmc = "", network: Network = LOCAL_NETWORK, as_json_: AsJson = False
) -> None:
    """Partitions, NX units and processes of a cluster."""
    found = _survey(folder, hmc, network)
    if as_json_:
        print_json(as_json(found, {} if hmc else ClusterFolder(folder).metric_urls()))
        return
    system = found.system
    recovering = ", recovering" if system.recovering else ""
    out.print(
        f"{system.system}: hypervisor pid {system.pid} at {found.hmc}{recovering}; "
        f"{system.hundredths_free / 100:g} of {counted(system.cores_total, 'core')} and {system.qos_free} of "
        f"{system.qos_total} QoS credits free",
        highlight=False,
    )
    units = [(unit.name, unit.chip, unit.state, unit.windows, unit.pid) for unit in system.units]
    out.print(table("", ("NX unit", "chip", "state", "windows", "pid"), units))
    _print_credits(found)


def credits(
    folder: Dir = DEFAULT_DIR, hmc: Hmc = "", network: Network = LOCAL_NETWORK, as_json_: AsJson = False
) -> None:
    """Credits of every partition: the kernel's counters and the hypervisor's ledger."""
    found = _survey(folder, hmc, network)
    if as_json_:
        print_json(as_json(found)["lpars"])
    else:
        _print_credits(found)


def _print_credits(found: Survey) -> None:
    out.print(credit_table(found))
    if found.system.slots is not None:
        out.print(slots_line(found.system.slots), highlight=False, markup=False)


def _survey(folder: Path, hmc: str, network: str) -> Survey:
    """The system as it is; a line on standard error where partitions are not on this network."""
    with console(folder, hmc, network) as connection:
        found = survey(connection, network)
    names, networks = not_asked(found)
    if names:
        errors.print(elsewhere(network, names, networks), highlight=False, markup=False)
    return found


def windows(
    name: Annotated[str | None, typer.Argument(metavar="[LPAR]", help="Only this partition's.")] = None,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    as_json_: AsJson = False,
) -> None:
    """The hypervisor's window table: every window that costs a credit."""
    with console(folder, hmc) as connection:
        known = [lpar.name for lpar in connection.system().lpars]
        if name is not None and name not in known:
            raise ClusterError(f"the system has no partition {name!r}; it has {', '.join(known)}")
        rows = list(connection.windows(name))
    if as_json_:
        print_json([{**row.model_dump(mode="json"), "credit_type": row.credit_type.name.lower()} for row in rows])
        return
    cells = [
        (row.window_id, row.lpar, row.credit_type.name.lower(), row.unit, row.state, row.status.name, row.process_id)
        for row in rows
    ]
    out.print(table("", ("window", "lpar", "type", "unit", "state", "status", "pid"), cells))
    out.print(counted(len(rows), "window"), highlight=False)


def logs(
    name: Annotated[str | None, typer.Argument(help="hypervisor, a partition or an NX unit.")] = None,
    folder: Dir = DEFAULT_DIR,
    follow: Annotated[bool, typer.Option("--follow", "-F", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Lines from the end of each log.")] = 20,
    as_json_: AsJson = False,
) -> None:
    """The logs of the cluster's processes."""
    paths = sorted((folder / "logs").glob("*.log"))
    if name is not None:
        paths = [path for path in paths if path.stem == name]
    if not paths:
        raise ClusterError(f"no log {'of ' + repr(name) + ' ' if name else ''}in {folder / 'logs'}")
    positions = {path: path.stat().st_size for path in paths}
    tails = {path.stem: path.read_text(errors="replace").splitlines()[-lines:] if lines else [] for path in paths}
    if as_json_:
        print_json(tails)
        return
    for stem, tail in tails.items():
        for line in tail:
            out.print(f"{stem:12} {line}", highlight=False, markup=False)
    while follow:
        for stem, line in _new_lines(positions):
            out.print(f"{stem:12} {line}", highlight=False, markup=False)
        time.sleep(LOG_POLL_S)


def _new_lines(positions: dict[Path, int]) -> Iterator[tuple[str, str]]:
    for path, position in positions.items():
        with path.open(errors="replace") as file:
            file.seek(position)
            text = file.read()
            positions[path] = file.tell()
        yield from ((path.stem, line) for line in text.splitlines())


def credit_table(found: Survey) -> Table:
    """Every pool: the kernel's counters and the hypervisor's."""
    rows = [
        _credit_row(lpar, found, credit_type)
        for lpar in found.system.lpars
        for credit_type in (CreditType.DEFAULT, CreditType.QOS)
    ]
    return table("", CREDIT_HEADINGS, rows)


def _credit_row(lpar: LparStatus, found: Survey, credit_type: CreditType) -> tuple[str | int, ...]:
    counters = found.kernels[lpar.name]
    share = processors(lpar.mode, lpar.cores, lpar.hundredths)
    ledger = pool(lpar, credit_type)
    total: int | str = "-"
    used: int | str = "-"
    available: int | str = "-"
    if counters is not None:
        is_default = credit_type is CreditType.DEFAULT
        total = counters.default_total if is_default else counters.qos_total
        used = counters.default_used if is_default else counters.qos_used
        available = total - used
    kernel = (total, used, available)
    excess = ledger.excess or "-"
    state = shown_state(lpar, counters, found.network)
    return (lpar.name, state, share, credit_type.name.lower(), *kernel, ledger.target, ledger.in_use, excess)
