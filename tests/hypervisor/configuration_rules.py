"""Changes of processors and credits in the state machine, compared with the books."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from protocol.console_messages import ConfigurationApplied, ConsoleFailure
from tests.hypervisor.books import QOS_TOTAL, Books
from tests.hypervisor.cluster import Cluster

PATIENT_MS = 200_000
LPARS = st.sampled_from(["lp1", "lp2", "lp3"])


class ConfigurationRules(RuleBasedStateMachine):
    """What the console may ask: it is applied whole or refused."""

    cluster: Cluster
    books: Books

    @rule(lpar=st.sampled_from(["lp1", "lp2"]), cores=st.integers(-3, 5).filter(bool))
    def move_cores(self, lpar: str, cores: int) -> None:
        reply = self.cluster.dlpar(lpar, cores, PATIENT_MS)
        held = self.books.cores[lpar]
        if len(held) + cores < 1 or cores * 100 > self.books.spare_hundredths():
            assert isinstance(reply, ConsoleFailure), reply
            return
        assert isinstance(reply, ConfigurationApplied), reply
        self.books.cores[lpar] = held[: len(held) + cores] + ["core"] * cores

    @rule(hundredths=st.integers(0, 500))
    def entitle(self, hundredths: int) -> None:
        reply = self.cluster.entitle("lp3", hundredths, PATIENT_MS)
        if hundredths < 5 or hundredths - len(self.books.hundredths["lp3"]) > self.books.spare_hundredths():
            assert isinstance(reply, ConsoleFailure), reply
            return
        assert isinstance(reply, ConfigurationApplied), reply
        self.books.hundredths["lp3"] = ["hundredth"] * hundredths

    @rule(lpar=LPARS)
    def migrate(self, lpar: str) -> None:
        """The kernel reports at once that it was moved, without its hcalls: nothing has changed."""
        reply = self.cluster.migrate(lpar, PATIENT_MS)
        assert isinstance(reply, ConsoleFailure), reply
        assert reply.code in ("not_migrated", "not_running")

    @rule(lpar=LPARS, credits=st.integers(-1, QOS_TOTAL + 1))
    def set_qos(self, lpar: str, credits: int) -> None:
        reply = self.cluster.qos(lpar, credits, PATIENT_MS)
        if credits < 0 or credits - len(self.books.qos[lpar]) > self.books.spare_qos():
            assert isinstance(reply, ConsoleFailure), reply
            return
        assert isinstance(reply, ConfigurationApplied), reply
        self.books.qos[lpar] = ["credit"] * credits
