"""Windows with translation faults, for the tests that begin with one."""

from __future__ import annotations

from hypervisor.rows import FaultRow
from tests.hypervisor.cluster import Cluster


def opened(cluster: Cluster, lpar: str = "lp1") -> int:
    """A window at nx0."""
    return cluster.lpars[lpar].open_window(chip=0).window_id


def faulted(cluster: Cluster, number: int | None = None) -> int:
    """A window of lp1 at nx0 with a fault that its kernel has heard of."""
    window_id = opened(cluster)
    cluster.units["nx0"].fault(window_id, number)
    cluster.pump()
    return window_id


def rows(cluster: Cluster) -> list[tuple[int, str]]:
    """The faults in the ledger: number and state."""
    return [(int.from_bytes(row.number), row.state) for row in cluster.store.rows() if isinstance(row, FaultRow)]
