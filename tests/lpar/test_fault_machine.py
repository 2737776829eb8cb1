"""Random sequences with translation faults in them: none is lost, none is told twice, no window stays behind."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from protocol.codes import CreditType, HcallCode
from protocol.device_messages import CloseDescriptor, Done, UpdateCsb
from protocol.hcall_messages import HGetNxFault
from tests.lpar.client_process import Client
from tests.lpar.faults import block
from tests.lpar.hypervisor import Silence
from tests.lpar.test_machine import COMMON, POSITIONS, PROCESSES, TOTALS, WindowLists

HANDLED_MS = 5
"""The busy loop asks each millisecond here; a fault is fetched within that."""


@dataclass(frozen=True, slots=True)
class Raised:
    """A fault of this bench: which window it is of, and which process waits for its status block."""

    window_id: int
    number: int
    csb_address: int
    client: Client


class TranslationFaults(WindowLists):
    """The machine of window lists, with requests that meet absent pages at every moment of a window's life.

    Addresses of status blocks are never used twice, so that each block names its fault.
    """

    @initialize()
    def no_faults(self) -> None:
        self.last_number = 0
        self.owed: dict[Client, list[UpdateCsb]] = {}

    def active_window(self, position: int) -> int | None:
        """An owned window that is open in the hypervisor."""
        names = [name for name, (_w, _m, kind) in self.windows.items() if not self.lists[kind].is_closed(name)]
        return names[position % len(names)] if names else None

    def raise_fault(self, name: int, *, told: bool = True) -> Raised:
        """A fault of a window whose interrupt is lost, and which the process will be told of if it lives."""
        client = self.windows[name][0].client
        self.last_number += 1
        raised = Raised(self.partition.window(name).window_id, self.last_number, self.last_number << 12, client)
        self.partition.hypervisor.raise_fault(
            raised.window_id, raised.number, csb_address=raised.csb_address, notify=False
        )
        if told:
            self.owed.setdefault(client, []).append(UpdateCsb(csb_address=raised.csb_address, csb=block()))
        return raised

    def interrupt(self, raised: Raised, times: int = 1) -> None:
        for _time in range(times):
            self.partition.hypervisor.interrupt(raised.window_id, raised.number)
        self.partition.settle()

    @rule(position=POSITIONS, times=st.integers(1, 4))
    def fault(self, position: int, times: int) -> None:
        name = self.active_window(position)
        if name is not None:
            self.interrupt(self.raise_fault(name), times)

    @rule(position=POSITIONS, faults=st.integers(1, 3))
    def faults_while_one_is_handled(self, position: int, faults: int) -> None:
        name = self.active_window(position)
        if name is None:
            return
        self.partition.hypervisor.returns(HGetNxFault, Silence.HOLD)
        for raised in [self.raise_fault(name) for _ in range(faults)]:
            self.interrupt(raised)
        self.partition.hypervisor.release()
        self.partition.settle()

    @rule(position=POSITIONS)
    def a_fetch_fails_and_the_interrupt_is_repeated(self, position: int) -> None:
        name = self.active_window(position)
        if name is None:
            return
        raised = self.raise_fault(name)
        self.partition.hypervisor.returns(HGetNxFault, HcallCode.H_HARDWARE)
        self.interrupt(raised)
        self.interrupt(raised)

    @rule(position=POSITIONS)
    def close_behind_a_fault(self, position: int) -> None:
        name = self.active_window(position)
        if name is None:
            return
        raised = self.raise_fault(name)
        window, mapping, credit_type = self.windows.pop(name)
        self.partition.unmap(window.client, mapping)
        closing = self.partition.call(window.client, CloseDescriptor(descriptor=window.descriptor))
        self.partition.advance(HANDLED_MS)
        assert closing not in window.client.answers
        self.interrupt(raised)
        self.partition.advance(HANDLED_MS)
        self.partition.answer(window.client, closing, Done)
        self.lists[credit_type].close([name], self.migrating)

    @rule(total=TOTALS)
    def processors_change_behind_faults(self, total: int) -> None:
        """Every open window of the type has a fault; those that lose their credit wait for it."""
        faults = [self.raise_fault(name) for name in list(self.windows) if self.active_default(name)]
        lists = self.lists[CreditType.DEFAULT]
        lists.target = total
        closes = lists.active > total
        expected = lists.reconfigure(total, self.migrating)
        reports = len(self.partition.hypervisor.reports)
        self.partition.announce_total(total)
        self.partition.advance(HANDLED_MS)
        assert (len(self.partition.hypervisor.reports) == reports) is closes
        for raised in faults:
            self.interrupt(raised)
            self.partition.advance(HANDLED_MS)
        assert self.partition.hypervisor.reports[-1].accepted is expected

    def active_default(self, name: int) -> bool:
        kind = self.windows[name][2]
        return kind is CreditType.DEFAULT and not self.lists[kind].is_closed(name)

    @rule(process=st.integers(0, PROCESSES - 1))
    def exit_behind_faults(self, process: int) -> None:
        client = self.processes[process]
        names = [name for name, (window, _m, _k) in self.windows.items() if window.client is client]
        open_names = [name for name in names if not self.lists[self.windows[name][2]].is_closed(name)]
        faults = [self.raise_fault(name, told=False) for name in open_names]
        self.exit(process=process)
        for raised in faults:
            self.interrupt(raised)
            self.partition.advance(HANDLED_MS)

    @rule(position=POSITIONS)
    def segmentation_fault(self, position: int) -> None:
        """The status block is mapped nowhere: the process ends, and with it all its windows."""
        name = self.active_window(position)
        if name is None:
            return
        client = self.windows[name][0].client
        self.last_number += 1
        self.partition.hypervisor.raise_fault(self.partition.window(name).window_id, self.last_number, csb_address=0)
        self.partition.settle()
        assert len(client.signals) == 1
        names = [mine for mine, (window, _m, _k) in self.windows.items() if window.client is client]
        for credit_type, lists in self.lists.items():
            lists.close([mine for mine in names if self.windows[mine][2] is credit_type], self.migrating)
        for mine in names:
            del self.windows[mine]
        client.running = False
        place = self.processes.index(client)
        self.processes[place] = self.partition.process(pid=10 + place)

    @invariant()
    def every_fault_was_told_once(self) -> None:
        if not hasattr(self, "owed"):
            return
        for client in {*self.owed, *getattr(self, "processes", [])}:
            assert client.blocks == self.owed.get(client, [])

    @invariant()
    def no_fault_and_no_line_stays_behind(self) -> None:
        if not hasattr(self, "partition"):
            return
        assert not any(self.partition.hypervisor.faults.values())
        assert self.partition.core.statistics().pending_faults == 0
        lines = self.partition.core.kernel.driver.fault_lines
        assert {line.window_id for line in lines} == self.partition.hypervisor.windows.keys()


TestTranslationFaults = TranslationFaults.TestCase
TestTranslationFaults.settings = COMMON
