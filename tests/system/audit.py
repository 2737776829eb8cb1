"""What must hold at every moment, whatever dies: checked as the messages leave and as the ledger is written.

- A request has one outcome: whoever repeats it gets the answer that it had, also from a restarted hypervisor.
- An epoch belongs to one incarnation, and those of a name rise.
- A window's id is used once; its credit is taken below the partition's limit, and is free again only when no unit has
  a context of it. No paste on it is accepted from then on.
- A partition's generation never falls, and every change of its configuration by the console has one of its own.
- An accepted paste ends in one status block: its unit's, always the same one, or the kernel's, written once.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.ledger import Partition
from hypervisor.rows import Drop, LedgerWindowRow, PartitionRow, Put
from nxunit.core import UnitCore
from protocol.codes import CreditType
from protocol.device_messages import UpdateCsb
from protocol.effects import DIALLED, Send
from protocol.fabric_messages import FaultRaised
from protocol.message import Message, Reply
from protocol.paste_messages import PasteAccepted, PasteCompleted
from protocol.session_messages import Welcome
from tests.system.system import Host
from tests.system.watching import Watcher

Paste = tuple[int, int, int]
"""The number of a unit's process; the window; the paste's number."""


class Audit(Watcher):
    """Raises AssertionError at the step that breaks a rule; `settled` looks at what can only be judged at the end."""

    def __init__(self) -> None:
        self.answers: dict[tuple[object, ...], Message] = {}
        self.epochs: dict[tuple[object, ...], dict[int, bytes]] = {}
        self.opened: set[int] = set()
        self.freed: set[int] = set()
        self.partitions: dict[str, PartitionRow] = {}
        self.accepted: set[Paste] = set()
        self.completed: dict[Paste, PasteCompleted] = {}
        self.faulted: set[Paste] = set()
        self.updates: dict[tuple[int, str, int, int], int] = {}

    def sent(self, host: Host, send: Send, other: str) -> None:
        body, envelope = send.envelope.body, send.envelope
        process = host.number
        if isinstance(body, Welcome) and other:
            self._welcomed(host, body, other)
        elif isinstance(body, UpdateCsb) and other:
            number = self.updates.setdefault((process, other, envelope.epoch, body.csb_address), envelope.number)
            assert number == envelope.number, f"{host.name} writes the block at {body.csb_address:#x} of {other} twice"
        elif isinstance(body, FaultRaised):
            self.faulted.add((process, body.window_id, body.number))
        elif isinstance(body, PasteAccepted):
            self._paste_accepted((process, body.window_id, body.number), host)
        elif isinstance(body, PasteCompleted):
            before = self.completed.setdefault((process, body.window_id, body.number), body)
            assert before.csb == body.csb, f"{host.name} completes paste {body.number} of {body.window_id} in two ways"
        if isinstance(body, Reply) and envelope.number and other:
            # The hypervisor's answers outlive its process, everybody else's are gone with it.
            answerer = host.name if host.role == "hypervisor" else str(process)
            link = send.link if send.peer != DIALLED else f"{send.link} below"
            before_ = self.answers.setdefault((answerer, link, other, envelope.epoch, envelope.number), body)
            where = f"{host.name} answers request {envelope.number} of {other} (epoch {envelope.epoch}) on {link}"
            assert before_ == body, f"{where} with {body}, having said {before_}"

    def stored(self, writes: Sequence[object]) -> None:
        for write in writes:
            if isinstance(write, Put) and isinstance(write.row, PartitionRow):
                self._partition_stored(write.row)
        for write in writes:
            if isinstance(write, Put) and isinstance(write.row, LedgerWindowRow):
                self._window_stored(write.row)
            elif isinstance(write, Drop) and write.table is LedgerWindowRow:
                self._window_freed(write)

    def settled(self) -> None:
        """Nothing is under way any more: every paste that a living unit accepted has ended, once."""
        both = self.completed.keys() & self.faulted
        assert not both, f"completed by the unit and handed to the kernel as a fault: {sorted(both)}"
        for host in self.system.hosts.values():
            if isinstance(host.core, UnitCore):
                process = host.number
                mine = {paste for paste in self.accepted if paste[0] == process}
                endless = mine - self.completed.keys() - self.faulted
                assert not endless, f"{host.name} has accepted and never ended {sorted(endless)}"
                assert host.core.counters.accepted == len(mine), f"{host.name} has run a paste twice"

    def _welcomed(self, host: Host, welcome: Welcome, other: str) -> None:
        listener = host.name if host.role == "hypervisor" else str(host.number)
        epochs = self.epochs.setdefault((listener, other), {})
        if welcome.epoch not in epochs:
            latest = max(epochs, default=0)
            assert welcome.epoch > latest, f"{other} gets epoch {welcome.epoch} after {latest}"
        secret = epochs.setdefault(welcome.epoch, welcome.secret)
        assert secret == welcome.secret, f"epoch {welcome.epoch} of {other} is given to a second incarnation"

    def _paste_accepted(self, paste: Paste, host: Host) -> None:
        if paste not in self.accepted:
            assert paste[1] not in self.freed, f"{host.name} accepts a paste on window {paste[1]}, whose credit is free"
            self.accepted.add(paste)

    def _partition_stored(self, row: PartitionRow) -> None:
        before = self.partitions.get(row.name)
        self.partitions[row.name] = row
        if before is None:
            return
        assert row.generation >= before.generation, f"{row.name} falls from generation {before.generation}"
        claimed_or_freed = Partition.from_row(row).is_free_slot or Partition.from_row(before).is_free_slot
        if row.cores != before.cores and not claimed_or_freed:
            assert row.generation > before.generation, f"{row.name} changes its cores within a generation"

    def _window_stored(self, row: LedgerWindowRow) -> None:
        assert row.window_id not in self.freed, f"window {row.window_id} comes back"
        if row.window_id in self.opened:
            return
        assert row.window_id > max(self.opened, default=0), f"window id {row.window_id} is used again"
        self.opened.add(row.window_id)
        partition = Partition.from_row(self.partitions[row.lpar])
        credit_type = CreditType(row.credit_type)
        limit = self.system.hypervisor.configurations.allocation_limit(partition, credit_type)
        rows = self.system.store.tables[LedgerWindowRow].values()
        in_use = [
            held
            for held in rows
            if isinstance(held, LedgerWindowRow) and (held.lpar, held.credit_type) == (row.lpar, row.credit_type)
        ]
        assert len(in_use) <= limit, f"{row.lpar} gets window {len(in_use)} of {limit} {credit_type.name}"

    def _window_freed(self, write: Drop) -> None:
        (window_id,) = write.key
        assert isinstance(window_id, int)
        self.freed.add(window_id)
        holder = self.system.contexts().get(window_id)
        assert holder is None, f"the credit of window {window_id} is free while {holder} still has its context"
