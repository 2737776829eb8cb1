"""Slots: partitions that whoever dials in claims, and that give everything back when their session ends. Pure.

A slot is claimed as long as its session lives. A free one holds no processors and no QoS credits, so that they are in
the system's free pool. It is not given out before the last window of its earlier holder is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypervisor.ledger import Ledger, Partition
from protocol.claims import SLOT
from protocol.clock import SECOND_US
from protocol.codes import CreditType
from protocol.console_messages import SlotsStatus
from protocol.effects import Effects
from protocol.listener import Listener
from protocol.refusals import RefusalCode
from protocol.session_messages import Hello, Refused
from protocol.system import LparSettings, SlotSettings
from protocol.wire import refuse

LPAR = "lpar"
RETRY_MS = 1_000
PATIENCE_LEASES = 2
"""For so many leases a claim that finds nothing is to be repeated: a dead replica's slot may come back."""
WAITING_LIMIT = 4_096
"""Incarnations whose first claim is remembered; the one that has waited longest is forgotten for one more."""


@dataclass(slots=True)
class Waiting:
    """An incarnation that wants a slot: since when, and when it was heard last."""

    since_us: int
    heard_us: int


@dataclass(slots=True)
class Slots:
    """Who has which slot (protocol.claims.Claims). `qos_free` gives the system's QoS credits that nobody has."""

    template: SlotSettings | None
    ledger: Ledger
    link: Listener
    effects: Effects
    qos_free: Callable[[], int]
    names: tuple[str, ...] = ()
    waiting: dict[bytes, Waiting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = self.ledger.system.slot_names

    def restore(self, now_us: int) -> None:
        """After a restart: what slots without a session still have is given back."""
        for name in self.names:
            if name not in self.link.sessions:
                self.release(name, now_us)

    # Claiming.

    def resolve(self, hello: Hello, now_us: int) -> Hello | Refused:
        """The HELLO of a slot as that of the partition it has, or gets; other HELLOs as they are.

        One that is to resume a session that is over stays as it is: it is told that its session is dead.
        """
        if hello.role != SLOT:
            return self._not_by_name(hello) or hello
        if self.template is None or hello.name != self.template.name:
            return self._unknown(hello)
        name = self._held_by(hello.incarnation)
        if name is None and hello.epoch:
            return hello
        if name is None:
            chosen = self._choose(self.template)
            if isinstance(chosen, Refused):
                return self._put_off(hello, chosen, now_us)
            name = chosen
        self.waiting.pop(hello.incarnation, None)
        return hello.model_copy(update={"role": LPAR, "name": name})

    def family(self, name: str) -> str:
        """All slots have one counter of epochs: who had one slot is never taken for the holder of another."""
        return self.template.name if self.template is not None and name in self.ledger.slot_names else name

    def claimed(self, name: str, now_us: int) -> None:
        """The slot has a new session: it gets what the template says."""
        settings = self.ledger.system.lpar_named(name)
        if settings is not None and name in self.ledger.slot_names:
            self._set(self.ledger.partitions[name], settings, now_us)

    def release(self, name: str, now_us: int) -> None:
        """The slot has no session any more: all that it had, also by later changes, is in the system's pool again."""
        partition = self.ledger.partitions[name]
        if name in self.ledger.slot_names and not partition.is_free_slot:
            self._set(partition, None, now_us)

    def status(self) -> SlotsStatus | None:
        """How many there are and how many are claimed; None in a system without slots."""
        if self.template is None:
            return None
        return SlotsStatus(template=self.template.name, count=len(self.names), claimed=self._claimed)

    @property
    def _claimed(self) -> int:
        return sum(name in self.link.sessions for name in self.names)

    def _held_by(self, incarnation: bytes) -> str | None:
        sessions = ((name, self.link.sessions.get(name)) for name in self.names)
        return next((name for name, held in sessions if held is not None and held.incarnation == incarnation), None)

    def _choose(self, template: SlotSettings) -> str | Refused:
        """The lowest slot that is free, if the system has what the template says."""
        name = next((name for name in self.names if self._is_claimable(name)), None)
        if name is None:
            expected = f"a free slot of {template.name!r}"
            came = f"{self._claimed} of {len(self.names)} claimed"
            closing = len(self.names) - self._claimed
            came += f", and the windows of {closing} are still being closed" if closing else ""
            return refuse(RefusalCode.SLOTS_FULL, expected, came, RETRY_MS)
        hundredths, qos = max(0, self.ledger.free_hundredths()), max(0, self.qos_free())
        if template.capacity_hundredths <= hundredths and template.qos_credits <= qos:
            return name
        expected = f"{template.capacity_hundredths} hundredths of a processor and {template.qos_credits} QoS credits"
        came = f"{hundredths} hundredths and {qos} QoS credits that nobody has"
        return refuse(RefusalCode.NO_PROCESSORS, f"{expected} for {name}", came, RETRY_MS)

    def _is_claimable(self, name: str) -> bool:
        closed = not any(self.ledger.in_use(name, credit_type) for credit_type in CreditType)
        return closed and name not in self.link.sessions

    # Refusals.

    def _put_off(self, hello: Hello, refusal: Refused, now_us: int) -> Refused:
        """The refusal of a claim: to be repeated for two leases, then for good."""
        terms = self.link.terms
        lease_us = terms.lease_us + terms.drift_margin_us
        for incarnation, other in list(self.waiting.items()):
            if now_us >= other.heard_us + lease_us:
                del self.waiting[incarnation]
        claim = self.waiting.setdefault(hello.incarnation, Waiting(now_us, now_us))
        claim.heard_us = now_us
        if len(self.waiting) > WAITING_LIMIT:
            del self.waiting[next(iter(self.waiting))]
        if now_us < claim.since_us + PATIENCE_LEASES * lease_us:
            return refusal
        waited = f"{refusal.came}, for {(now_us - claim.since_us) // SECOND_US} s"
        self.effects.note("warning", "slot_refused", code=str(refusal.code), expected=refusal.expected, came=waited)
        return refusal.model_copy(update={"after_ms": 0, "came": waited})

    def _not_by_name(self, hello: Hello) -> Refused | None:
        if self.template is None or hello.name not in self.ledger.slot_names:
            return None
        expected = f"the role {SLOT} and the template's name {self.template.name!r}: a slot is claimed, and named then"
        return refuse(RefusalCode.UNKNOWN_NAME, expected, f"{hello.role} {hello.name!r}")

    def _unknown(self, hello: Hello) -> Refused:
        expected = "a partition's name: the system file has no [slots]"
        if self.template is not None:
            expected = f"the name of the slots' template: {self.template.name!r}"
        return refuse(RefusalCode.UNKNOWN_NAME, expected, f"{hello.role} {hello.name!r}")

    def _set(self, partition: Partition, settings: LparSettings | None, now_us: int) -> None:
        partition.cores = 0 if settings is None else settings.cores
        partition.hundredths = 0 if settings is None else settings.hundredths
        partition.qos_credits = 0 if settings is None else settings.qos_credits
        if settings is not None:
            partition.mode, partition.home_chip = settings.mode, settings.home_chip
        partition.held = False
        self.ledger.store_partition(partition)
        for credit_type in CreditType:
            self.ledger.publish_credits(partition.name, credit_type, now_us)
