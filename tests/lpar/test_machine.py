"""Random sequences of open, close, exit, remove, add, suspend and resume against the lists of domain.md."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from protocol.codes import CreditType, FaultOutcome, HcallCode, Instruction
from protocol.device_messages import (
    CloseDescriptor,
    Done,
    Fault,
    FaultHandled,
    OsFailure,
    TxWinOpen,
    Unmap,
    WindowOpened,
)
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HModifyVasWindow
from protocol.message import Request
from protocol.system import ReopenPolicy
from tests.lpar.client_process import Client, OpenedWindow
from tests.lpar.model import Faults, Lists
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, Partition, booted

CREDITS_MOST = 12
PROCESSES = 3

TYPES = st.sampled_from(list(CreditType))
TOTALS = st.integers(0, CREDITS_MOST)
POSITIONS = st.integers(0, 2 * CREDITS_MOST)


class WindowLists(RuleBasedStateMachine):
    """The partition and the model side by side. Windows are named by their order of opening."""

    policy = ReopenPolicy.KERNEL

    @initialize(default=TOTALS, qos=TOTALS)
    def boot(self, default: int, qos: int) -> None:
        self.partition: Partition = booted(default, qos, reopen=self.policy)
        self.partition.hypervisor.enforces = True
        eager = self.policy is ReopenPolicy.EAGER
        self.lists = {
            CreditType.DEFAULT: Lists(default, default, eager),
            CreditType.QOS: Lists(qos, qos, eager),
        }
        self.migrating = False
        self.opened = 0
        self.windows: dict[int, tuple[OpenedWindow, int, CreditType]] = {}
        self.processes: list[Client] = [self.partition.process(pid=10 + n) for n in range(PROCESSES)]

    def owned(self, position: int) -> int | None:
        """A window that a living descriptor still names."""
        names = list(self.windows)
        return names[position % len(names)] if names else None

    @rule(credit_type=TYPES, process=st.integers(0, PROCESSES - 1))
    def open(self, credit_type: CreditType, process: int) -> None:
        client = self.processes[process]
        descriptor = self.partition.device(client)
        request = TxWinOpen(descriptor=descriptor, vas_id=0, flags=int(credit_type is CreditType.QOS))
        expected = self.lists[credit_type].open(self.opened + 1, self.migrating)
        if expected == "opened":
            self.opened += 1
            reply = self.partition.ask(client, request, WindowOpened)
            window = OpenedWindow(client, descriptor, reply.window_id)
            mapping = self.partition.mmap(window).mapping
            self.windows[self.opened] = (window, mapping, credit_type)
        else:
            assert self.partition.ask(client, request, OsFailure).reason.value == expected
            self.partition.ask(client, CloseDescriptor(descriptor=descriptor), Done)

    @rule(credit_type=TYPES, process=st.integers(0, PROCESSES - 1))
    def open_to_the_limit(self, credit_type: CreditType, process: int) -> None:
        while True:
            before = self.opened
            self.open(credit_type=credit_type, process=process)
            if self.opened == before:
                return

    @rule(position=POSITIONS)
    def close(self, position: int) -> None:
        name = self.owned(position)
        if name is None:
            return
        window, mapping, credit_type = self.windows.pop(name)
        self.partition.ask(window.client, CloseDescriptor(descriptor=window.descriptor), Done)
        assert any(int(line[0]) == name for line in self.partition.listing())
        self.partition.ask(window.client, Unmap(mapping=mapping), Done)
        self.lists[credit_type].close([name], self.migrating)

    @rule(process=st.integers(0, PROCESSES - 1))
    def exit(self, process: int) -> None:
        client = self.processes[process]
        client.dialer.say_bye()
        self.partition.settle()
        client.running = False
        names = [name for name, (window, _mapping, _type) in self.windows.items() if window.client is client]
        for credit_type, lists in self.lists.items():
            lists.close([name for name in names if self.windows[name][2] is credit_type], self.migrating)
        for name in names:
            del self.windows[name]
        self.processes[process] = self.partition.process(pid=10 + process)

    @rule(total=TOTALS)
    def processors_change(self, total: int) -> None:
        self.lists[CreditType.DEFAULT].target = total
        expected = self.lists[CreditType.DEFAULT].reconfigure(total, self.migrating)
        assert self.partition.retarget(total).accepted is expected

    @rule(total=TOTALS, hypervisor_follows=st.booleans())
    def qos_credits_change(self, total: int, hypervisor_follows: bool) -> None:
        """The console tells the partition first, and the hypervisor only then."""
        number = self.partition.write(UPDATE_TOTAL_CREDITS, f"{total}\n")
        expected = self.lists[CreditType.QOS].reconfigure(total, self.migrating)
        self.partition.answer(self.partition.reader, number, Done if expected else OsFailure)
        if hypervisor_follows or self.policy is ReopenPolicy.EAGER:
            self.partition.hypervisor.targets[CreditType.QOS] = total
            self.lists[CreditType.QOS].target = total

    @rule()
    def suspend(self) -> None:
        self.partition.core.suspend(self.partition.now_us)
        self.partition.settle()
        self.migrating = True
        for lists in (self.lists[CreditType.QOS], self.lists[CreditType.DEFAULT]):
            lists.suspend()

    @rule()
    def resume(self) -> None:
        self.partition.core.resume(self.partition.now_us)
        self.partition.settle()
        self.migrating = False
        for credit_type in (CreditType.QOS, CreditType.DEFAULT):
            if not self.lists[credit_type].resume():
                break
            self.lists[credit_type].come_back_after_resume()

    @invariant()
    def the_lists_are_the_models(self) -> None:
        if not hasattr(self, "partition"):
            return
        listed = {int(line[0]): (line[1], line[3]) for line in self.partition.listing()}
        expected = {
            name: (credit_type.name.lower(), lists.status(name))
            for credit_type, lists in self.lists.items()
            for name in lists.oldest_first
        }
        assert listed == expected
        assert list(listed) == sorted(listed, reverse=True)
        for credit_type, lists in self.lists.items():
            pool = self.partition.pool(credit_type)
            assert self.partition.credits(credit_type) == (lists.total, lists.counted_used)
            assert (pool.nr_open, pool.nr_close, pool.progress) == (len(lists.oldest_first), lists.counted_closed, 0)
            held = sum(kind is credit_type for kind in self.partition.hypervisor.windows.values())
            assert held == lists.granted

    @invariant()
    def pastes_fault_as_the_status_says(self) -> None:
        if not hasattr(self, "partition"):
            return
        present = {line[0]: line[2] for line in self.partition.listing()}
        for name, (window, mapping, credit_type) in self.windows.items():
            request = Fault(mapping=mapping, instruction=Instruction.PASTE)
            handled = self.partition.ask(window.client, request, FaultHandled)
            if self.lists[credit_type].is_closed(name):
                assert handled.outcome is FaultOutcome.PASTE_FAILED
            else:
                assert handled.outcome is FaultOutcome.REMAPPED
                assert handled.address is not None
                assert str(handled.address.window_id) == present[str(name)]
                assert handled.address.window_id in self.partition.hypervisor.windows

    @invariant()
    def nothing_is_left_under_way(self) -> None:
        if hasattr(self, "partition"):
            assert self.partition.core.kernel.is_idle
            assert self.partition.core.kernel.driver.mutex.holder is None


class FailingHypervisor(WindowLists):
    """The same with single hcalls failing: aborted walks, leaked windows, a counter that goes astray."""

    def failing(self, credit_type: CreditType, faults: Faults, act: Callable[[], None]) -> None:
        script: dict[type[Request], tuple[int | None, HcallCode]] = {
            HAllocateVasWindow: (faults.allocate, HcallCode.H_CONSTRAINED),
            HModifyVasWindow: (faults.modify, HcallCode.H_P2),
            HDeallocateVasWindow: (faults.deallocate, HcallCode.H_STATE),
        }
        for request, (position, code) in script.items():
            if position is not None:
                self.partition.hypervisor.fails_at(request, position, code)
        self.lists[credit_type].faults = faults
        act()
        self.lists[credit_type].faults = Faults()
        self.partition.hypervisor.script.clear()

    @rule(total=TOTALS, kind=st.sampled_from(["allocate", "modify", "deallocate"]), position=st.integers(0, 4))
    def processors_change_with_a_failure(self, total: int, kind: str, position: int) -> None:
        faults = Faults(**{kind: position})
        self.failing(CreditType.DEFAULT, faults, lambda: self.processors_change(total=total))

    @rule(kind=st.sampled_from(["allocate", "modify", "deallocate"]))
    def open_with_a_failure(self, kind: str) -> None:
        faults = Faults(**{kind: 0})
        self.failing(CreditType.DEFAULT, faults, lambda: self.open(credit_type=CreditType.DEFAULT, process=0))

    @precondition(lambda self: any(kind is CreditType.DEFAULT for _w, _m, kind in self.windows.values()))
    @rule(position=POSITIONS)
    def close_with_a_failure(self, position: int) -> None:
        """The window of a descriptor that is closed leaks; nobody can name it any more."""
        name = self.owned(position)
        if name is None or self.windows[name][2] is not CreditType.DEFAULT:
            return
        self.failing(CreditType.DEFAULT, Faults(deallocate=0), lambda: self.close(position=position))


class EagerReopening(WindowLists):
    """The same with `reopen = "eager"`."""

    policy = ReopenPolicy.EAGER


COMMON = settings(max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestWindowLists = WindowLists.TestCase
TestWindowLists.settings = COMMON
TestFailingHypervisor = FailingHypervisor.TestCase
TestFailingHypervisor.settings = COMMON
TestEagerReopening = EagerReopening.TestCase
TestEagerReopening.settings = COMMON
