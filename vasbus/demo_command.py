"""`vasbus demo`: the tour on a cluster of its own, or on the one at `--hmc`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from deploy.cluster import ClusterError, ClusterFolder
from deploy.launcher import down, sample_system_path, up
from hmc.connection import Console
from hmc.observer import Observer
from protocol.message import LOCAL_NETWORK
from vasbus.output import out
from vasbus.target import Hmc, Network, console_keys, endpoint_on
from vasbus.tour.crew import Crew, TourFailure
from vasbus.tour.inputs import DEFAULT_MEGABYTES, find_inputs
from vasbus.tour.stage import Stage
from vasbus.tour.steps import STEPS


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    folder: Annotated[
        Path | None, typer.Option("--input", help="Files to compress; by default Python's own sources.")
    ] = None,
    megabytes: Annotated[int, typer.Option(min=1, help="Compress at least this much in all.")] = DEFAULT_MEGABYTES,
    hmc: Hmc = "",
    network: Network = LOCAL_NETWORK,
) -> None:
    """The tour: credits, refusals, core removal, fallback, return. It checks itself: exit 1 if anything is off."""
    try:
        inputs = find_inputs(folder, megabytes)
    except ValueError as error:
        raise ClusterError(str(error)) from None
    network = network if hmc else LOCAL_NETWORK
    began = time.monotonic()
    with (
        _cluster(hmc) as endpoint,
        Console(endpoint, network, keys=console_keys()) as console,
        Observer(endpoint_on(network, "telemetry", console.system().telemetry), console_keys()) as observer,
        Crew(network) as crew,
    ):
        stage = Stage(console, observer, out, crew, inputs, network)
        try:
            for step in STEPS:
                step(stage)
        except TourFailure as failure:
            raise ClusterError(f"the tour failed: {failure}") from None
    out.print(f"\nThe tour held: {stage.checks} checks in {time.monotonic() - began:.1f} s.", highlight=False)


@contextmanager
def _cluster(hmc: str) -> Iterator[str]:
    """The hmc endpoint of a fresh cluster of the sample system, taken down afterwards; or the one given."""
    if hmc:
        yield hmc
        return
    with tempfile.TemporaryDirectory(prefix="vasbus-demo-") as path:
        folder = ClusterFolder(Path(path))
        try:
            started = up(folder, sample_system_path(), lambda _: None)
            parts = len(started.units) + len(started.lpars) + 1
            out.print(f"{parts} processes are running: one hypervisor, {len(started.units)} NX units, "
                      f"{len(started.lpars)} partitions", highlight=False)  # fmt: skip
            yield folder.addresses().hmc
        finally:
            down(folder, lambda text: out.print(text), keep_ledger=False)
