"""Random sequences with translation faults in them: none is lost, none is told twice, no window stays behind."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from protocol.codes import HcallCode
from protocol.device_messages import CloseDescriptor, Done, UpdateCsb
from protocol.hcall_messages import HDeallocateVasWindow, HGetNxFault
from protocol.system import ReopenPolicy
from tests.lpar.client_process import Client
from tests.lpar.faults import block
from tests.lpar.hypervisor import Silence
from tests.lpar.model_hypervisor import DEFAULT
from tests.lpar.random_story import Genre, Operation, reached
from tests.lpar.sequence import PROCESSES, TOTAL_MOST, Held, Twins, pick

HANDLED_MS = 5
"""The busy loop asks each millisecond here; a fault is fetched within that."""
SEQUENCES = 250


@dataclass(frozen=True, slots=True)
class Raised:
    """A fault of this bench: which window it is of, and which process waits for its status block."""

    window_id: int
    number: int
    csb_address: int


class FaultyTwins(Twins):
    """The twins with requests that meet absent pages at every moment of a window's life.

    Addresses of status blocks are never used twice, so that each block names its fault.
    """

    def __init__(self, default: int, qos: int, policy: ReopenPolicy, *, enforces: bool) -> None:
        super().__init__(default, qos, policy, enforces=enforces)
        self.last_number = 0
        self.owed: dict[Client, list[UpdateCsb]] = {}

    def active(self) -> list[Held]:
        """Owned windows that are open in the hypervisor."""
        return [one for one in self.held if one.window.status == "active"]

    def raise_fault(self, held: Held, *, told: bool = True) -> Raised:
        """A fault of a window whose interrupt is lost, and which the process will be told of if it lives."""
        self.last_number += 1
        raised = Raised(held.window.window_id, self.last_number, self.last_number << 12)
        self.partition.hypervisor.raise_fault(
            raised.window_id, raised.number, csb_address=raised.csb_address, notify=False
        )
        if told:
            self.owed.setdefault(held.client, []).append(UpdateCsb(csb_address=raised.csb_address, csb=block()))
        return raised

    def interrupt(self, raised: Raised, times: int = 1) -> None:
        for _time in range(times):
            self.partition.hypervisor.interrupt(raised.window_id, raised.number)
        self.partition.settle()

    def interrupt_in_turn(self, faults: list[Raised]) -> None:
        for raised in faults:
            self.interrupt(raised)
            self.partition.advance(HANDLED_MS)

    def fault(self, choice: int) -> None:
        held = pick(self.active(), choice)
        if held is not None:
            self.interrupt(self.raise_fault(held), 1 + choice // 64 % 4)

    def faults_while_one_is_handled(self, choice: int) -> None:
        held = pick(self.active(), choice)
        if held is None:
            return
        self.partition.hypervisor.returns(HGetNxFault, Silence.HOLD)
        for raised in [self.raise_fault(held) for _ in range(1 + choice // 64 % 3)]:
            self.interrupt(raised)
        self.partition.hypervisor.release()
        self.partition.settle()

    def a_fetch_fails_and_the_interrupt_is_repeated(self, choice: int) -> None:
        held = pick(self.active(), choice)
        if held is None:
            return
        raised = self.raise_fault(held)
        self.partition.hypervisor.returns(HGetNxFault, HcallCode.H_HARDWARE)
        self.interrupt(raised)
        self.interrupt(raised)

    def close_behind_a_fault(self, choice: int) -> None:
        """The close returns when the fault has been fetched."""
        held = pick(self.active(), choice)
        if held is None:
            return
        raised = self.raise_fault(held)
        self.held.remove(held)
        if held.mapping is not None:
            self.partition.unmap(held.client, held.mapping)
            held.window.present = None
        closing = self.partition.call(held.client, CloseDescriptor(descriptor=held.descriptor))
        self.partition.advance(HANDLED_MS)
        assert closing not in held.client.answers
        self.interrupt_in_turn([raised])
        self.partition.answer(held.client, closing, Done)
        self.model.close([held.window])

    def processors_change_behind_faults(self, choice: int) -> None:
        """Every open window of the type has a fault; those that lose their credit wait for it."""
        faults = [self.raise_fault(one) for one in self.active() if one.window.kind == DEFAULT]
        caps, total = self.model.caps[DEFAULT], choice % (TOTAL_MOST + 1)
        closes = total <= caps.total and caps.active > total
        reports = len(self.partition.hypervisor.reports)
        self.model.hypervisor.target[DEFAULT] = total
        change = self.model.dlpar()
        self.partition.announce_total(total)
        self.partition.advance(HANDLED_MS)
        assert (len(self.partition.hypervisor.reports) == reports) is closes
        self.interrupt_in_turn(faults)
        self.applied(change)

    def exit_behind_faults(self, choice: int) -> None:
        """Nobody is left to be told, and yet every fault is fetched."""
        client = self.processes[choice % PROCESSES]
        faults = [self.raise_fault(one, told=False) for one in self.active() if one.client is client]
        self.exit(choice)
        self.interrupt_in_turn(faults)

    def segmentation_fault(self, choice: int) -> None:
        """The status block is mapped nowhere: the process ends, and with it all its windows."""
        held = pick(self.active(), choice)
        if held is None:
            return
        self.last_number += 1
        self.partition.hypervisor.raise_fault(held.window.window_id, self.last_number, csb_address=0)
        self.partition.settle()
        assert len(held.client.signals) == 1
        self.ended(held.client)

    def compare(self) -> None:
        """Beside the lists: every fault was told once, and neither a fault nor its line stays behind.

        The busy loop repeats H_DEALLOCATE while a window has a fault that nobody has fetched.
        """
        hypervisor = self.partition.hypervisor
        made = [call for call in hypervisor.made if not isinstance(call, HGetNxFault)]
        repeated = (isinstance(call, HDeallocateVasWindow) and call == before for before, call in pairwise(made))
        hypervisor.made = made[:1] + [call for call, again in zip(made[1:], repeated, strict=True) if not again]
        super().compare()
        for client in {*self.owed, *self.processes}:
            assert client.blocks == self.owed.get(client, [])
        assert not any(hypervisor.faults.values())
        assert self.partition.core.statistics().pending_faults == 0
        lines = self.partition.core.kernel.driver.fault_lines
        assert {line.window_id for line in lines} == hypervisor.windows.keys()


OPERATIONS: dict[Operation, int] = {
    FaultyTwins.open: 4,
    FaultyTwins.open_three: 4,
    FaultyTwins.map: 2,
    FaultyTwins.paste: 2,
    FaultyTwins.close: 2,
    FaultyTwins.exit: 1,
    FaultyTwins.remove: 2,
    FaultyTwins.add: 3,
    FaultyTwins.qos: 3,
    FaultyTwins.suspend: 1,
    FaultyTwins.resume: 2,
    FaultyTwins.fault: 3,
    FaultyTwins.faults_while_one_is_handled: 3,
    FaultyTwins.a_fetch_fails_and_the_interrupt_is_repeated: 2,
    FaultyTwins.close_behind_a_fault: 3,
    FaultyTwins.processors_change_behind_faults: 3,
    FaultyTwins.exit_behind_faults: 1,
    FaultyTwins.segmentation_fault: 1,
}


def test_random_sequences_with_translation_faults_lose_none_and_leave_the_kernels_lists() -> None:
    states = {"both flags", "stranded credits", "one of two flags cleared"}
    assert reached(Genre(OPERATIONS, twins=FaultyTwins), range(SEQUENCES)).keys() >= states
