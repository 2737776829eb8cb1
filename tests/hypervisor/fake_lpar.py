"""A fake partition: a kernel that makes hcalls and follows its configuration as it is told to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol.codes import HYPERVISOR_CHOOSES, MODIFY_FLAGS, CreditType, HcallCode
from protocol.hcall_messages import (
    Configuration,
    ConfigurationChange,
    FaultInterrupt,
    HAllocateVasWindow,
    HcallStatus,
    HDeallocateVasWindow,
    HGetNxFault,
    HModifyVasWindow,
    HQueryVasCapabilities,
    NxFault,
    QueryConfiguration,
    Reconfigured,
    VasFeatureCapabilities,
    WindowAllocated,
)
from protocol.link import HCALL
from protocol.message import Request
from protocol.session import Answered, Event, Noticed
from tests.hypervisor.end import End

if TYPE_CHECKING:
    from tests.hypervisor.cluster import Cluster


class FakeLpar(End):
    """A partition's kernel. `follows`: it asks for changes and reports them at once with `verdict`."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster, HCALL, "lpar", name, cluster.system.times.lpar_lease_ms, by_beats=True)
        self.follows = True
        self.verdict: Callable[[ConfigurationChange], Reconfigured] = accept
        self.applied: list[ConfigurationChange] = []
        self.generation = 0
        self._asked: int | None = None

    def start(self) -> None:
        super().start()
        self.generation, self._asked = 0, None

    def heard(self, generation: int) -> None:
        if self.follows and self._asked is None and generation > self.generation:
            self._asked = self.send(QueryConfiguration(generation=self.generation))

    def handle(self, event: Event) -> None:
        super().handle(event)
        if isinstance(event, Noticed) and isinstance(event.body, ConfigurationChange):
            self.heard(event.body.generation)
        elif isinstance(event, Answered) and event.number == self._asked:
            self._asked = None
            if isinstance(event.reply, Configuration):
                self._apply(event.reply)

    def _apply(self, configuration: Configuration) -> None:
        change = configuration.change
        if change is None:
            self.generation = max(self.generation, configuration.generation)
            return
        self.applied.append(change)
        self.generation = change.generation
        self.send(self.verdict(change))

    # The hcalls as the kernel's loops make them: again while the hypervisor is busy.

    def allocate(
        self, credit_type: int = CreditType.DEFAULT, chip: int = HYPERVISOR_CHOOSES, credits: int = 1
    ) -> WindowAllocated:
        reply = self.ask(HAllocateVasWindow(window_type=credit_type, credits=credits, domain=(chip, 0, 0, 0, 0, 0)))
        assert isinstance(reply, WindowAllocated)
        return reply

    def status_of(self, body: Request) -> HcallCode:
        reply = self.ask(body)
        assert isinstance(reply, HcallStatus)
        return reply.code

    def modify(self, window_id: int, process_id: int = 77) -> HcallCode:
        return self._until_done(modify(window_id, process_id))

    def deallocate(self, window_id: int) -> HcallCode:
        return self._until_done(HDeallocateVasWindow(window_id=window_id))

    def _until_done(self, body: Request) -> HcallCode:
        for _ in range(10_000):
            code = self.status_of(body)
            if not code.is_busy:
                return code
        raise AssertionError("the hypervisor stays busy")

    def open_window(self, credit_type: int = CreditType.DEFAULT, chip: int = HYPERVISOR_CHOOSES) -> WindowAllocated:
        """H_ALLOCATE and H_MODIFY, both of which must succeed."""
        window = self.allocate(credit_type, chip)
        assert window.code is HcallCode.H_SUCCESS, window
        assert self.modify(window.window_id) is HcallCode.H_SUCCESS
        return window

    def fetch(self, window_id: int, buffer_address: int = 0x8000) -> NxFault:
        """H_GET_NX_FAULT."""
        reply = self.ask(HGetNxFault(window_id=window_id, buffer_address=buffer_address))
        assert isinstance(reply, NxFault)
        return reply

    @property
    def interrupts(self) -> list[tuple[int, int]]:
        """The fault interrupts so far: window and number."""
        return [(told.window_id, told.number) for told in self.notices if isinstance(told, FaultInterrupt)]

    def capabilities(self, query_type: int) -> VasFeatureCapabilities:
        reply = self.ask(HQueryVasCapabilities(query_type=query_type))
        assert isinstance(reply, VasFeatureCapabilities)
        return reply


def accept(change: ConfigurationChange) -> Reconfigured:
    return Reconfigured(generation=change.generation, accepted=True)


def refuse(change: ConfigurationChange) -> Reconfigured:
    return Reconfigured(generation=change.generation, accepted=False, error="rc 22")


def modify(window_id: int, process_id: int = 77) -> HModifyVasWindow:
    return HModifyVasWindow(window_id=window_id, process_id=process_id, flags=MODIFY_FLAGS)
