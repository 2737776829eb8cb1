"""Translation faults in the state machine: raised, lost, told again, fetched, in any order with everything else."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocol.clock import SECOND_US
from protocol.codes import HcallCode
from protocol.fabric_messages import CreditReturned, FaultNoted, FaultRaised, ReturnCredit
from protocol.hcall_messages import FaultInterrupt, HGetNxFault, NxFault
from protocol.message import Message
from tests.hypervisor.books import Books
from tests.hypervisor.cluster import Cluster
from tests.hypervisor.fake_unit import FakeUnit, fault_of

LPARS = st.sampled_from(["lp1", "lp2", "lp3"])
NUMBERS = st.integers(0, 1 << 16)
FAULTS_KEPT = 8
LOSABLE = (FaultRaised, FaultNoted, ReturnCredit, CreditReturned, FaultInterrupt, HGetNxFault, NxFault)


class FaultRules(RuleBasedStateMachine):
    """What the kernel may rely on: every noted fault of a window is fetched once, oldest first, while it is open."""

    cluster: Cluster
    books: Books
    running: set[str]

    def state_of(self, window_id: int) -> str:
        """Where the window stands in the hypervisor's table."""
        return next((row.state for row in self.cluster.windows() if row.window_id == window_id), "gone")

    def expected(self, window_id: int) -> list[int]:
        """Noted faults that the kernel has not fetched, oldest first."""
        noted = {
            number for unit in self.cluster.units.values() for (window, number) in unit.noted if window == window_id
        }
        fetched = self.books.fetched.get(window_id, [])
        return sorted(number for number in noted if number > max(fetched, default=0))

    def fit_for_paste(self) -> list[tuple[FakeUnit, int]]:
        """Contexts that would take a paste, with their units."""
        if not hasattr(self, "cluster"):
            return []
        return [
            (unit, window_id)
            for _, unit in sorted(self.cluster.units.items())
            for window_id, held in sorted(unit.contexts.items())
            if unit.running and not held.busy and not held.closers
        ]

    @precondition(lambda self: self.fit_for_paste())
    @rule(number=NUMBERS, again=st.booleans())
    def paste_faults(self, number: int, again: bool) -> None:
        """A paste stops at an absent page; or one that the unit has forgotten is repeated and stops again."""
        fit = self.fit_for_paste()
        nx, window_id = fit[number % len(fit)]
        last = self.books.pasted.get(window_id, 0)
        repeated = again and last > nx.contexts[window_id].last_number
        nx.fault(window_id, last if repeated else last + 1)
        self.books.pasted[window_id] = max(last, nx.contexts[window_id].last_number)

    def interrupted(self) -> list[tuple[str, int]]:
        """Partitions and their live windows of whose faults they have heard."""
        if not hasattr(self, "cluster"):
            return []
        heard = {(lpar, window_id) for lpar in self.running for window_id, _ in self.cluster.lpars[lpar].interrupts}
        return sorted((lpar, window_id) for lpar, window_id in heard if window_id in self.books.live[lpar])

    @precondition(lambda self: self.interrupted())
    @rule(number=NUMBERS)
    def fetch(self, number: int) -> None:
        heard = self.interrupted()
        self.fetch_one(*heard[number % len(heard)])

    @rule(lpar=LPARS, number=NUMBERS)
    def fetch_without_an_interrupt(self, lpar: str, number: int) -> None:
        windows = sorted(self.books.live[lpar])
        if windows and lpar in self.running:
            self.fetch_one(lpar, windows[number % len(windows)])

    def fetch_one(self, lpar: str, window_id: int) -> bool:
        """H_GET_NX_FAULT, compared with the books. True: there was a fault."""
        expected = self.expected(window_id)
        fault = self.cluster.lpars[lpar].fetch(window_id)
        if fault.code is HcallCode.H_STATE:
            gone = self.state_of(window_id) in ("quiesced", "gone")
            assert not expected or gone, f"{expected} of window {window_id} were noted"
            return False
        assert fault.code is HcallCode.H_SUCCESS
        fetched = self.books.fetched.setdefault(window_id, [])
        assert fault.number not in fetched
        assert fault.number > max(fetched, default=0)
        assert fault.number <= self.books.pasted[window_id]
        if expected and len(expected) <= FAULTS_KEPT:
            assert fault.number <= expected[0]
        raised = fault_of(window_id, fault.number)
        assert (fault.window_id, fault.function) == (window_id, raised.function)
        assert (fault.fault_address, fault.csb_address) == (raised.fault_address, raised.csb_address)
        fetched.append(fault.number)
        return True

    @rule(lpar=LPARS, number=NUMBERS)
    def fetch_anothers(self, lpar: str, number: int) -> None:
        others = [window_id for other, windows in self.books.live.items() if other != lpar for window_id in windows]
        foreign = sorted({*others, *self.books.dead})
        if foreign and lpar in self.running:
            assert self.cluster.lpars[lpar].fetch(foreign[number % len(foreign)]).code is HcallCode.H_PARAMETER

    @precondition(lambda self: self.fit_for_paste())
    @rule(unit=st.sampled_from(["nx0", "nx1"]))
    def unit_loses_its_memory(self, unit: str) -> None:
        """A unit restarts at once; unless it is mute its contexts are back before anything else happens."""
        nx = self.cluster.units[unit]
        nx.die()
        nx.start()
        if not nx.mute:
            self.cluster.wait(lambda: self.cluster.unit_status(unit).state == "running")

    @precondition(lambda self: self.fit_for_paste())
    @rule(number=NUMBERS, steps=st.integers(0, 6))
    def pastes_fault_one_after_another(self, number: int, steps: int) -> None:
        """As long as somebody fetches them."""
        for _ in range(steps):
            if self.fit_for_paste():
                self.paste_faults(number, again=False)
            heard = self.interrupted()
            if heard:
                self.fetch_one(*heard[number % len(heard)])

    @rule(kind=st.sampled_from(LOSABLE), count=st.integers(1, 3))
    def messages_are_lost(self, kind: type[Message], count: int) -> None:
        """The next messages of a kind do not arrive, so that they are repeated."""
        left = [None] * count
        self.cluster.loses = lambda _name, body: isinstance(body, kind) and bool(left and not left.pop())

    @invariant()
    def nothing_that_was_given_back_still_drains(self) -> None:
        if hasattr(self, "cluster"):
            returned = {window.window_id for window in self.books.returned}
            assert not [
                fault for unit in self.cluster.units.values() for fault in unit.faults if fault.window_id in returned
            ]

    def serve_faults(self) -> None:
        """Every kernel takes its interrupts and fetches what there is; then every window credit is back."""
        self.cluster.advance(8 * SECOND_US)
        for lpar in sorted(self.running):
            for window_id in sorted(self.books.live[lpar]):
                waiting = self.expected(window_id)
                if waiting and self.state_of(window_id) not in ("quiesced", "gone"):
                    assert {(window_id, number) for number in waiting[-1:]} <= set(self.cluster.lpars[lpar].interrupts)
                while self.fetch_one(lpar, window_id):
                    pass
        self.cluster.advance(8 * SECOND_US)
        live = {window_id for lpar in self.running for window_id in self.books.live[lpar]}
        held = [(fault.window_id, fault.number) for unit in self.cluster.units.values() for fault in unit.faults]
        assert not [fault for fault in held if fault[0] in live], held
