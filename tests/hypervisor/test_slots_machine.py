"""Replicas come, die, are cut off, get cores and credits, and the hypervisor is killed: nothing is held twice.

The model beside it has a token for every core and every QoS credit. It learns who has a slot from the replicas alone,
and what was changed from the console's answers.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.codes import HcallCode
from protocol.console_messages import ChangeProcessors, ConfigurationApplied, ConsoleFailure, SetQosCredits
from tests.hypervisor.cluster import Kill
from tests.hypervisor.fake_lpar import modify
from tests.hypervisor.replica import LEASE_US, NAMES, Replica, Replicas

SECOND_US = 1_000_000
CORES, QOS = 8, 10
REPLICAS = 5
numbers = st.integers(0, REPLICAS - 1)


class Tokens:
    """What everybody should have."""

    def __init__(self) -> None:
        self.cores = {"lp1": ["core"] * 2, "lp2": ["core"] * 2}
        self.qos: dict[str, list[str]] = {"lp1": [], "lp2": []}
        self.hundredths = ["hundredth"] * 80
        """Of lp3, which shares."""

    def claim(self, holder: str) -> None:
        self.cores[holder], self.qos[holder] = ["core"], ["credit"] * 2

    def spare(self) -> tuple[int, int]:
        """Hundredths and QoS credits that nobody has."""
        taken = sum(100 for cores in self.cores.values() for _ in cores) + len(self.hundredths)
        return CORES * 100 - taken, QOS - sum(map(len, self.qos.values()))


class Slots(RuleBasedStateMachine):
    """Each rule is something that happens to a replica, to the console or to the hypervisor."""

    def __init__(self) -> None:
        super().__init__()
        self.replicas = Replicas(REPLICAS)
        self.cluster = self.replicas.cluster

    @rule(number=numbers, wait_s=st.sampled_from([0, 1, 30]))
    def comes(self, number: int, wait_s: int) -> None:
        replica = self.replicas.all[number]
        if not replica.running:
            replica.cut = False
            replica.start()
        self.cluster.advance(wait_s * SECOND_US)

    @rule(number=numbers)
    def dies(self, number: int) -> None:
        self.replicas.all[number].die()

    @rule(number=numbers)
    def leaves(self, number: int) -> None:
        replica = self.replicas.all[number]
        if replica.has_slot and not replica.cut:
            replica.dialer.say_bye()
            self.cluster.pump()
            replica.die()

    @rule(number=numbers, for_s=st.sampled_from([1, 5, 12]))
    def is_cut_off(self, number: int, for_s: int) -> None:
        replica = self.replicas.all[number]
        replica.cut = True
        self.cluster.advance(for_s * SECOND_US)
        replica.cut = False

    @rule(number=numbers, windows=st.integers(1, 3))
    def opens_windows(self, number: int, windows: int) -> None:
        replica = self.replicas.all[number]
        for _ in range(windows):
            if replica.has_slot and not self.cluster.core.recovering:
                window = replica.allocate()
                if window.code is HcallCode.H_SUCCESS:
                    replica.status_of(modify(window.window_id))

    @rule(number=numbers, windows=st.integers(1, 3))
    def leaves_windows_that_stay_for_a_while(self, number: int, windows: int) -> None:
        """The units do not say that they have closed them."""
        self.opens_windows(number, windows)
        for unit in self.cluster.units.values():
            unit.mute = True
        self.leaves(number)

    @rule()
    def units_say_what_they_have_closed(self) -> None:
        for unit in self.cluster.units.values():
            unit.mute = False
            unit.speak()

    @rule(lpar=st.sampled_from(["lp1", "lpar-01", "lpar-02", "lpar-03"]), cores=st.sampled_from([-1, 1, 2]))
    def cores_move(self, lpar: str, cores: int) -> None:
        self._operate(ChangeProcessors(lpar=lpar, cores=cores, wait_ms=1_000))

    @rule(lpar=st.sampled_from(["lp1", "lpar-01", "lpar-02"]), credits=st.integers(0, 5))
    def credits_move(self, lpar: str, credits: int) -> None:
        self._operate(SetQosCredits(lpar=lpar, credits=credits, wait_ms=1_000))

    @rule(turns=st.integers(1, 3), committed=st.booleans())
    def hypervisor_is_to_be_killed(self, turns: int, committed: bool) -> None:
        self.cluster.kill = Kill(turns, committed)

    @rule()
    def hypervisor_is_killed(self) -> None:
        self.cluster.restart()

    @rule(for_s=st.sampled_from([1, 4, 11]))
    def time_passes(self, for_s: int) -> None:
        self.cluster.advance(for_s * SECOND_US)

    def _operate(self, body: ChangeProcessors | SetQosCredits) -> None:
        before = self.replicas.claimed()
        reply = self.cluster.operate(body)
        if body.lpar in NAMES and body.lpar not in (*before, *self.replicas.claimed()):
            assert isinstance(reply, ConsoleFailure)
            assert reply.code == "free_slot"

    @invariant()
    def nobody_shares_a_slot(self) -> None:
        """By the word of those who may still act: whoever beats is the one that the hypervisor knows."""
        sessions = self.cluster.core.hcall.sessions
        slots = [name for name in sessions if name.startswith("lpar-")]
        assert len({sessions[name].incarnation for name in slots}) == len(slots), "one incarnation has two slots"
        holders = [replica for replica in self.replicas.all if self._is_known(replica)]
        assert len({replica.slot for replica in holders}) == len(holders)

    def _is_known(self, replica: Replica) -> bool:
        session = self.cluster.core.hcall.sessions.get(replica.slot)
        return replica.has_slot and session is not None and session.epoch == replica.epoch

    @invariant()
    def books_balance(self) -> None:
        self.replicas.books_balance()

    def teardown(self) -> None:
        """When all is calm again the model knows exactly who has what."""
        self.cluster.kill = None
        self.units_say_what_they_have_closed()
        tokens = Tokens()
        self.cluster.advance(35 * SECOND_US)
        self.cluster.wait(lambda: not self.cluster.core.recovering)
        self.cluster.advance(2 * LEASE_US)
        holders = [replica for replica in self.replicas.all if replica.has_slot]
        assert sorted(replica.slot for replica in holders) == self.replicas.claimed()
        waiting = [replica for replica in self.replicas.all if replica.running and replica.ended is None]
        assert all(replica.has_slot for replica in waiting), "who finds no slot within two leases is refused for good"
        for replica in self.replicas.all:
            replica.die()
        self.cluster.advance(LEASE_US)
        assert self.replicas.claimed() == []
        assert self.cluster.windows() == []
        self._reset_named(tokens)
        assert self.replicas.free() == tokens.spare()
        for number in range(3):
            (replica,) = self.replicas.dial(number)
            tokens.claim(replica.slot)
            assert self.replicas.free() == tokens.spare()
        assert self.replicas.claimed() == ["lpar-01", "lpar-02", "lpar-03"]

    def _reset_named(self, tokens: Tokens) -> None:
        """The named partitions have again what the file says."""
        extra = self.replicas.cores()["lp1"] - len(tokens.cores["lp1"])
        if extra:
            assert isinstance(self.cluster.dlpar("lp1", -extra), ConfigurationApplied)
        assert isinstance(self.cluster.qos("lp1", 0), ConfigurationApplied)


TestSlots = Slots.TestCase
TestSlots.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
