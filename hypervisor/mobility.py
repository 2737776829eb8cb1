"""Migration streams: H_VASI_STATE, H_VASI_SIGNAL and H_JOIN. Pure. Source: domain.md 5.7.

A stream is a change of kind MIGRATION that is with its partition's kernel, and its id is the change's generation. The
destination is this same system: being moved gives the partition another home chip, if there is one, and the credits
that it had assigned stay assigned. The hypervisor is strict: it moves no partition that has a window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypervisor.change import Change, ChangeState
from hypervisor.ledger import Ledger, Partition
from hypervisor.rows import ChangeRow, Drop, Put
from protocol.clock import MILLISECOND_US
from protocol.codes import VASI_SIGNAL_CANCEL, CreditType, HcallCode, VasiState
from protocol.effects import Effects
from protocol.hcall_messages import ConfigurationKind, HcallStatus
from protocol.message import Reply, Request
from protocol.mobility_messages import HJoin, HVasiSignal, HVasiState, VasiStateTold

MOBILITY_REQUESTS = (HVasiState, HVasiSignal, HJoin)


@dataclass(slots=True)
class Streams:
    """Every partition's stream. `with_kernel(lpar)` is the change that its kernel is to apply, `publish` tells a step.

    `given_up`: the newest migration of a partition whose wait ran out before it was moved; its kernel finds it ABORTED.
    """

    ledger: Ledger
    effects: Effects
    with_kernel: Callable[[str], Change | None]
    publish: Callable[[Change, str, int], None]
    given_up: dict[str, Change] = field(default_factory=dict)

    def handle(self, partition: Partition, request: Request, now_us: int) -> Reply:
        """Carry out one hcall of a partition's kernel."""
        match request:
            case HVasiState(stream_id=stream_id):
                state = self.state(partition.name, stream_id, now_us)
                known = state is not VasiState.INVALID
                return VasiStateTold(code=HcallCode.H_SUCCESS if known else HcallCode.H_PARAMETER, state=state)
            case HVasiSignal(stream_id=stream_id, signal=signal):
                return HcallStatus(code=self._signal(partition, stream_id, signal, now_us))
            case HJoin(stream_id=stream_id):
                return HcallStatus(code=self._join(partition, stream_id, now_us))
            case _:
                raise AssertionError(f"{request.type} is no hcall of a migration")

    def state(self, lpar: str, stream_id: int, now_us: int) -> VasiState:
        """How far a stream is. It is ENABLED for its hold from the first time that it is asked after.

        By then the kernel has closed its windows, while user space goes on and finds that opens are EBUSY. A hold that
        is not over begins anew in a restarted hypervisor; that it is over is stored before the kernel is told.
        """
        change = self._migration(lpar, stream_id)
        if change is None:
            given_up = self.given_up.get(lpar)
            aborted = given_up is not None and given_up.generation == stream_id
            return VasiState.ABORTED if aborted else VasiState.INVALID
        if change.state is not ChangeState.WITH_KERNEL:
            return VasiState.COMPLETED if change.state is ChangeState.MOVED else VasiState.ABORTED
        if change.asked_us is None:
            change.asked_us = now_us
        if now_us < change.asked_us + change.amount * MILLISECOND_US:
            return VasiState.ENABLED
        if change.amount:
            change.amount = 0
            self.effects.writes.append(Put(change.row()))
        return VasiState.SUSPENDING

    def give_up(self, change: Change) -> None:
        """Its wait has run out, but its kernel may still be at it."""
        self._forget(change.lpar)
        self.given_up[change.lpar] = change

    def reported(self, lpar: str, generation: int) -> None:
        """The kernel is done with everything up to this generation."""
        change = self.given_up.get(lpar)
        if change is not None and change.generation <= generation:
            self._forget(lpar)

    def partition_died(self, lpar: str) -> None:
        """Nobody asks after its streams any more."""
        self._forget(lpar)

    def _forget(self, lpar: str) -> None:
        change = self.given_up.pop(lpar, None)
        if change is not None:
            self.effects.writes.append(Drop(ChangeRow, (change.lpar, change.order)))

    def _migration(self, lpar: str, stream_id: int) -> Change | None:
        change = self.with_kernel(lpar)
        if change is None or change.kind is not ConfigurationKind.MIGRATION or change.generation != stream_id:
            return None
        return change

    def _signal(self, partition: Partition, stream_id: int, signal: int, now_us: int) -> HcallCode:
        state = self.state(partition.name, stream_id, now_us)
        if state is VasiState.INVALID:
            return HcallCode.H_PARAMETER
        if signal != VASI_SIGNAL_CANCEL:
            return HcallCode.H_P2
        if state is VasiState.COMPLETED:
            return HcallCode.H_STATE
        change = self._migration(partition.name, stream_id)
        if change is not None and state is not VasiState.ABORTED:
            self._move(change, ChangeState.ABORTED, now_us)
        return HcallCode.H_SUCCESS

    def _join(self, partition: Partition, stream_id: int, now_us: int) -> HcallCode:
        state = self.state(partition.name, stream_id, now_us)
        if state is VasiState.INVALID:
            return HcallCode.H_PARAMETER
        has_window = any(self.ledger.in_use(partition.name, credit_type) for credit_type in CreditType)
        change = self._migration(partition.name, stream_id)
        if change is None or state is not VasiState.SUSPENDING or has_window:
            return HcallCode.H_STATE
        partition.home_chip = self._chip_after(partition.home_chip)
        self.ledger.store_partition(partition)
        self._move(change, ChangeState.MOVED, now_us)
        return HcallCode.H_SUCCESS

    def _chip_after(self, home_chip: int) -> int:
        numbers = sorted(chip.number for chip in self.ledger.system.chip)
        return next((number for number in numbers if number > home_chip), numbers[0])

    def _move(self, change: Change, state: ChangeState, now_us: int) -> None:
        change.state = state
        self.effects.writes.append(Put(change.row()))
        self.publish(change, str(state), now_us)
