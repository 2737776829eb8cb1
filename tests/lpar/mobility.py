"""A partition whose migration file a test writes, and what the scripted hypervisor answers."""

from __future__ import annotations

from protocol.codes import HcallCode, VasiState
from protocol.device_messages import Done, OsFailure
from protocol.message import Request
from protocol.mobility_messages import HVasiState, VasiStateTold
from tests.lpar.partition import Partition, booted

MIGRATION = "/sys/kernel/mobility/migration"
STREAM = 7
SUSPENDING, COMPLETED = VasiState.SUSPENDING, VasiState.COMPLETED


def states(partition: Partition, *told: VasiState | HcallCode) -> None:
    """What the hypervisor answers to H_VASI_STATE, one after the other."""
    for answer in told:
        if isinstance(answer, VasiState):
            reply = VasiStateTold(code=HcallCode.H_SUCCESS, state=answer)
        else:
            reply = VasiStateTold(code=answer)
        partition.hypervisor.returns(HVasiState, reply)


def with_windows(count: int = 3) -> Partition:
    """A partition with default windows 1 to `count`, of which the hypervisor has been told nothing since."""
    partition = booted(count, qos=2)
    partition.open_windows(count)
    partition.hypervisor.made.clear()
    partition.hypervisor.made_at_us.clear()
    return partition


def migrate(partition: Partition, stream: str = f"{STREAM}") -> int:
    return partition.write(MIGRATION, stream)


def failure(partition: Partition, number: int) -> OsFailure:
    return partition.answer(partition.reader, number, OsFailure)


def succeeded(partition: Partition, number: int) -> bool:
    return isinstance(partition.reader.answers.get(number), Done)


def made(partition: Partition, kind: type[Request]) -> list[Request]:
    return [call for call in partition.hypervisor.made if isinstance(call, kind)]


def moments_ms(partition: Partition, kind: type[Request]) -> list[float]:
    """When an hcall was made, counted from its first time."""
    calls = zip(partition.hypervisor.made, partition.hypervisor.made_at_us, strict=True)
    moments = [at_us for call, at_us in calls if isinstance(call, kind)]
    return [(at_us - moments[0]) / 1000 for at_us in moments]


def is_reopened(partition: Partition, count: int = 3) -> bool:
    return partition.with_status("active") == list(range(count, 0, -1))
