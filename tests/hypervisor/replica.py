"""Replicas: partitions without a name, which claim slots."""

from __future__ import annotations

from protocol.codes import CreditType
from protocol.system import SystemSettings
from tests.hypervisor.cluster import Cluster, settings
from tests.hypervisor.fake_lpar import FakeLpar

TEMPLATE = "lpar"
LEASE_US = 10_100_000
NAMES = ("lpar-01", "lpar-02", "lpar-03")


def with_slots(**changes: object) -> SystemSettings:
    """The system of the other tests, whose partitions leave 3.2 of its 8 cores, with three slots of one core each."""
    slots = {"name": TEMPLATE, "count": 3, "cores": 1, "qos_credits": 2, "home_chip": 1, **changes}
    return settings(slots=slots, qos_credits=10)


class Replica(FakeLpar):
    """A process that serves a slot, whichever it gets."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        super().__init__(cluster, TEMPLATE)
        self.role = "slot"
        cluster.lpars[f"replica-{number}"] = self

    @property
    def slot(self) -> str:
        """The partition that it is, by its WELCOME."""
        return self.dialer.session.name

    @property
    def has_slot(self) -> bool:
        return self.running and self.dialer.established


class Replicas:
    """A cluster with slots and some replicas that dial in when they are told to."""

    def __init__(self, count: int = 4, **changes: object) -> None:
        self.cluster = Cluster(with_slots(**changes)).start()
        self.all = [Replica(self.cluster, number) for number in range(count)]

    def dial(self, *numbers: int) -> list[Replica]:
        """Start these, one after the other; each has its slot before the next one begins."""
        for number in numbers:
            replica = self.all[number]
            replica.start()
            self.cluster.wait(lambda: replica.dialer.established)  # noqa: B023
            self.cluster.pump()
        return [self.all[number] for number in numbers]

    def claimed(self) -> list[str]:
        """The slots that are among the partitions of the status."""
        return [lpar.name for lpar in self.cluster.status().lpars if lpar.name in NAMES]

    def cores(self) -> dict[str, int]:
        return {lpar.name: lpar.cores for lpar in self.cluster.status().lpars}

    def free(self) -> tuple[int, int]:
        """Hundredths of a processor and QoS credits that nobody has."""
        status = self.cluster.status()
        return status.hundredths_free, status.qos_free

    def books_balance(self) -> None:
        """What the partitions have and what is free is all there is; no window is older than its slot's session."""
        status = self.cluster.status()
        given = sum(lpar.cores * 100 + lpar.hundredths for lpar in status.lpars)
        assert given + status.hundredths_free == status.cores_total * 100
        qos = sum(pool.target for lpar in status.lpars for pool in lpar.pools if pool.credit_type is CreditType.QOS)
        assert qos + status.qos_free == status.qos_total
        sessions = self.cluster.core.hcall.sessions
        for window in self.cluster.core.ledger.windows.values():
            if window.lpar in NAMES and window.lpar in sessions:
                assert window.epoch == sessions[window.lpar].epoch, "a slot was given out with somebody's windows"
