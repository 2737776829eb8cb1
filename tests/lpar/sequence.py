"""A partition and its model, moved by the same random operations and compared after each of them."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.codes import CreditType, FaultOutcome, HcallCode, Instruction, KernelReason
from protocol.device_messages import (
    CloseDescriptor,
    Done,
    Fault,
    FaultHandled,
    Mapped,
    Mmap,
    OsFailure,
    TxWinOpen,
    Unmap,
    WindowOpened,
)
from protocol.hcall_messages import HAllocateVasWindow, HDeallocateVasWindow, HModifyVasWindow, HQueryVasCapabilities
from protocol.message import Request
from protocol.system import ReopenPolicy
from tests.lpar.client_process import Client
from tests.lpar.comparison import TYPES, compare, compare_files
from tests.lpar.hypervisor import Silence
from tests.lpar.model import Change, Kernel, Window
from tests.lpar.model_hypervisor import DEFAULT, QOS, Hypervisor
from tests.lpar.partition import UPDATE_TOTAL_CREDITS, booted

TOTAL_MOST = 9
PROCESSES = 3
SUSPEND_SLEEP_MS = 10
UNANSWERED_MOST = 20
FAILURES: dict[str, tuple[type[Request], HcallCode]] = {
    "allocate": (HAllocateVasWindow, HcallCode.H_CONSTRAINED),
    "modify": (HModifyVasWindow, HcallCode.H_P2),
    "deallocate": (HDeallocateVasWindow, HcallCode.H_STATE),
    "query": (HQueryVasCapabilities, HcallCode.H_HARDWARE),
}


@dataclass(eq=False)
class Held:
    """A window that a descriptor names, or an open whose H_MODIFY has no answer yet: then `number` is the call's."""

    window: Window
    client: Client
    descriptor: int
    number: int | None = None
    mapping: int | None = None


class Twins:
    """The two sides. An operation takes `choice`, from which it makes whatever it needs."""

    def __init__(self, default: int, qos: int, policy: ReopenPolicy, *, enforces: bool) -> None:
        self.partition = booted(default, qos, reopen=policy)
        self.partition.hypervisor.enforces = enforces
        eager = policy is ReopenPolicy.EAGER
        self.model = Kernel(Hypervisor({QOS: qos, DEFAULT: default}, enforces), eager=eager)
        self.processes = [self.partition.process(pid=10 + n) for n in range(PROCESSES)]
        self.held: list[Held] = []
        self.half_open: list[Held] = []

    def fail(self, hcall: str, position: int) -> None:
        """Let one hcall of the next operation fail."""
        request, code = FAILURES[hcall]
        self.partition.hypervisor.fails_at(request, position, code)
        self.model.hypervisor.failing = {hcall: position}

    def fail_no_more(self) -> None:
        self.partition.hypervisor.script.clear()
        self.model.hypervisor.failing = {}

    def finish_opens(self) -> None:
        while self.half_open:
            self.finish_open(1)

    def finish_old_opens(self) -> None:
        """A session takes no request 64 numbers beyond one without an answer, and an operation makes up to 40."""
        numbers = self.partition.hypervisor.numbers
        while self.half_open and numbers[-1] - self.partition.hypervisor.held[0][1] > UNANSWERED_MOST:
            self.finish_open(1)

    def compare(self) -> None:
        compare(self.partition, self.model)

    def compare_files(self) -> None:
        compare_files(self.partition, self.model)

    # What processes do.

    def open(self, choice: int) -> None:
        kind, client = kind_of(choice), self.processes[choice // 4 % PROCESSES]
        descriptor = self.partition.device(client)
        number = self.partition.call(client, request_of(kind, descriptor))
        outcome = self.model.open(kind, client.pid)
        self._opened(outcome, client, descriptor, number)

    def open_three(self, choice: int) -> None:
        for _ in range(3):
            self.open(choice)

    def begin_open(self, choice: int) -> None:
        """An open whose H_MODIFY stays without an answer."""
        self.fail_no_more()
        kind, client = kind_of(choice), self.processes[choice // 4 % PROCESSES]
        descriptor = self.partition.device(client)
        self.partition.hypervisor.returns(HModifyVasWindow, Silence.HOLD)
        number = self.partition.call(client, request_of(kind, descriptor))
        self.partition.hypervisor.script.clear()
        begun = self.model.begin_open(kind, client.pid)
        if isinstance(begun, str):
            self._opened(begun, client, descriptor, number)
            return
        self.model.hypervisor.modify(begun.window_id, client.pid)
        self.half_open.append(Held(begun, client, descriptor, number))

    def finish_open(self, choice: int) -> None:
        """H_MODIFY answers one of those opens: rarely, that it failed."""
        if not self.half_open:
            return
        opening = self.half_open.pop(choice // 8 % len(self.half_open) if choice > 1 else 0)
        modified = choice % 8 != 0
        self._answer_modify(opening, HcallCode.H_SUCCESS if modified else HcallCode.H_P2)
        outcome = self.model.finish_open(opening.window, modified=modified)
        assert opening.number is not None
        done = opening.window if outcome == "opened" else outcome
        self._opened(done, opening.client, opening.descriptor, opening.number)

    def _answer_modify(self, opening: Held, code: HcallCode) -> None:
        hypervisor = self.partition.hypervisor
        others = [entry for entry in hypervisor.held if getattr(entry[2], "window_id", 0) != opening.window.window_id]
        hypervisor.held = [entry for entry in hypervisor.held if entry not in others]
        assert len(hypervisor.held) == 1
        hypervisor.release(code)
        hypervisor.held = others
        self.partition.settle()

    def _opened(self, outcome: Window | str, client: Client, descriptor: int, number: int) -> None:
        """The two sides agree on how an open ended."""
        if isinstance(outcome, Window):
            reply = self.partition.answer(client, number, WindowOpened)
            assert reply.window_id == outcome.window_id
            self.held.append(Held(outcome, client, descriptor))
            return
        assert self.partition.answer(client, number, OsFailure).reason.value == outcome
        self.partition.ask(client, CloseDescriptor(descriptor=descriptor), Done)

    def map(self, choice: int) -> None:
        """mmap: refused for a closed window; of an active one the last mapping counts."""
        held = pick(self.held, choice)
        if held is None or held.mapping is not None:
            return
        number = self.partition.call(held.client, Mmap(descriptor=held.descriptor))
        if held.window.status != "active":
            assert self.partition.answer(held.client, number, OsFailure).reason is KernelReason.INACTIVE
            return
        mapped = self.partition.answer(held.client, number, Mapped)
        assert mapped.address.window_id == held.window.window_id
        held.mapping, held.window.present = mapped.mapping, True

    def paste(self, choice: int) -> None:
        """A paste on a mapping: a closed window refuses it, an active one is mapped at its present address."""
        held = pick([one for one in self.held if one.mapping is not None], choice)
        if held is None or held.mapping is None:
            return
        request = Fault(mapping=held.mapping, instruction=Instruction.PASTE)
        handled = self.partition.ask(held.client, request, FaultHandled)
        if held.window.status != "active":
            assert handled == FaultHandled(outcome=FaultOutcome.PASTE_FAILED)
            return
        assert handled.outcome is FaultOutcome.REMAPPED
        assert handled.address is not None
        assert handled.address.window_id == held.window.window_id
        held.window.present = True

    def close(self, choice: int) -> None:
        self._close(pick(self.held, choice))

    def close_a_closed_window(self, choice: int) -> None:
        self._close(pick([one for one in self.held if one.window.status != "active"], choice))

    def _close(self, held: Held | None) -> None:
        """Descriptor first: a mapping keeps the window."""
        if held is None:
            return
        self.held.remove(held)
        self.partition.ask(held.client, CloseDescriptor(descriptor=held.descriptor), Done)
        if held.mapping is not None:
            self.compare()
            self.partition.ask(held.client, Unmap(mapping=held.mapping), Done)
        held.window.present = None
        self.model.close([held.window])

    def exit(self, choice: int) -> None:
        """A process ends with what it holds; an open half done would end with it, and is finished first."""
        self.finish_opens()
        client = self.processes[choice % PROCESSES]
        client.dialer.say_bye()
        self.partition.settle()
        self.ended(client)

    def ended(self, client: Client) -> None:
        """The process is gone: its windows close in the order of its descriptors, and another takes its place."""
        client.running = False
        ended = sorted((one for one in self.held if one.client is client), key=lambda one: one.descriptor)
        for one in ended:
            self.held.remove(one)
            one.window.present = None
        self.model.close([one.window for one in ended])
        self.processes[self.processes.index(client)] = self.partition.process(pid=client.pid)

    # What administrators do.

    def remove(self, choice: int) -> None:
        self._processors(max(0, self.model.caps[DEFAULT].total - 1 - choice % 5))

    def add(self, choice: int) -> None:
        self._processors(min(TOTAL_MOST, self.model.caps[DEFAULT].total + 1 + choice % 3))

    def _processors(self, total: int) -> None:
        self.model.hypervisor.target[DEFAULT] = total
        self.partition.announce_total(total)
        self.applied(self.model.dlpar())

    def applied(self, change: Change) -> None:
        report = self.partition.hypervisor.reports[-1]
        assert report.accepted is change.fine
        assert (list(report.closed), list(report.reopened)) == (change.closed, change.reopened)

    def qos(self, choice: int) -> None:
        """The console tells the partition first, and the hypervisor only then, or never; or others did it before."""
        total, order = choice % (TOTAL_MOST - 2), choice // TOTAL_MOST % 4
        if order == 0:
            self._qos_target(total)
        number = self.partition.write(UPDATE_TOTAL_CREDITS, f"{total}\n")
        change = self.model.reconfigure(QOS, total)
        self.partition.answer(self.partition.reader, number, Done if change.fine else OsFailure)
        if order > 1:
            self._qos_target(total)

    def _qos_target(self, total: int) -> None:
        self.partition.hypervisor.targets[CreditType.QOS] = self.model.hypervisor.target[QOS] = total

    def suspend(self, _choice: int) -> None:
        self.partition.core.suspend(self.partition.now_us)
        self.partition.settle()
        ahead = {kind: list(self.model.caps[kind].in_progress) for kind in TYPES}
        self.model.suspend()
        for windows in ahead.values():
            for window in windows:
                opening = next(one for one in self.half_open if one.window is window)
                self.half_open.remove(opening)
                assert opening.number is not None
                self._answer_modify(opening, HcallCode.H_SUCCESS)
                self._opened("migration", opening.client, opening.descriptor, opening.number)
            if windows:
                self.partition.advance(SUSPEND_SLEEP_MS)

    def resume(self, _choice: int) -> None:
        self.partition.core.resume(self.partition.now_us)
        self.partition.settle()
        self.model.resume()

    def a_second_passes(self, _choice: int) -> None:
        self.finish_opens()
        self.partition.advance(1_000)
        self.model.a_second_passes()


def kind_of(choice: int) -> str:
    return QOS if choice % 4 == 3 else DEFAULT


def request_of(kind: str, descriptor: int) -> TxWinOpen:
    return TxWinOpen(descriptor=descriptor, vas_id=0, flags=int(kind == QOS))


def pick(held: list[Held], choice: int) -> Held | None:
    return held[choice % len(held)] if held else None
