"""Migrations as tests of the hypervisor make them: the console asks, a partition's hcalls one by one, its report."""

from __future__ import annotations

from protocol.codes import VASI_SIGNAL_CANCEL, HcallCode, VasiState
from protocol.console_messages import ConsoleFailure, MigratePartition
from protocol.hcall_messages import Reconfigured
from protocol.mobility_messages import HJoin, HVasiSignal, HVasiState, VasiStateTold
from tests.hypervisor.cluster import Cluster, told
from tests.hypervisor.fake_lpar import FakeLpar

SUSPENDING, ABORTED, COMPLETED = VasiState.SUSPENDING, VasiState.ABORTED, VasiState.COMPLETED


def begin(cluster: Cluster, hold_ms: int = 0, wait_ms: int = 5_000, lpar: str = "lp1") -> int:
    """Ask for a migration; the partition is told and does nothing yet. The number of the console's answer."""
    cluster.lpars[lpar].follows = False
    number = cluster.console.send(MigratePartition(lpar=lpar, hold_ms=hold_ms, wait_ms=wait_ms))
    cluster.pump()
    return number


def state(partition: FakeLpar, stream: int = 1) -> VasiState:
    reply = told(partition.ask(HVasiState(stream_id=stream)), VasiStateTold)
    assert (reply.code is HcallCode.H_PARAMETER) == (reply.state is VasiState.INVALID)
    return reply.state


def join(partition: FakeLpar, stream: int = 1) -> HcallCode:
    return partition.status_of(HJoin(stream_id=stream))


def cancel(partition: FakeLpar, stream: int = 1, signal: int = VASI_SIGNAL_CANCEL) -> HcallCode:
    return partition.status_of(HVasiSignal(stream_id=stream, signal=signal))


def report(partition: FakeLpar, *, accepted: bool = True, generation: int = 1) -> None:
    error = "" if accepted else "not now"
    partition.ask(Reconfigured(generation=generation, accepted=accepted, error=error, closed=(7, 6), reopened=(9, 8)))
    partition.generation = generation
    partition.cluster.pump()


def home_chip(cluster: Cluster, lpar: str = "lp1") -> int:
    return cluster.lpar_status(lpar).home_chip


def failed(cluster: Cluster, number: int) -> ConsoleFailure:
    return told(cluster.console.answers[number], ConsoleFailure)
