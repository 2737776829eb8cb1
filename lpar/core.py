"""The partition's process: its session with the hypervisor, its client processes, and the kernel between them. Pure."""

from __future__ import annotations

from collections.abc import Callable

from lpar.kernel import Kernel
from lpar.migration import MigrationAction
from lpar.statistics import KernelStatistics
from protocol.claims import SLOT
from protocol.clock import MILLISECOND_US, earliest
from protocol.codes import ExitCode
from protocol.dialer import Dialer, Identity
from protocol.effects import Effects, Exit, Peer
from protocol.listener import Listener
from protocol.metrics import Family
from protocol.refusals import RefusalCode
from protocol.session import (
    Answered,
    Called,
    Closed,
    Ended,
    Ending,
    Established,
    Event,
    Noticed,
    Opened,
)
from protocol.session_messages import ByeDone, Hello, Refused
from protocol.system import LparSettings, SystemSettings
from protocol.wire import Envelope, refuse

HCALL = "hcall"
DEVICE = "device"
INCARNATION_BYTES = 16


class LparCore:
    """One partition. `identity` is how it presents itself to the hypervisor at `hcall_endpoint`; `entropy(n)` gives n
    unguessable bytes. With the role `slot` it learns its name with its session, and `settings` are the template's: a
    restart of the partition may give it another slot. Unless `clients_are_root` no client may write a file, as no user
    but root on the real machine.
    """

    def __init__(
        self,
        system: SystemSettings,
        settings: LparSettings,
        identity: Identity,
        hcall_endpoint: str,
        entropy: Callable[[int], bytes],
        *,
        clients_are_root: bool = True,
    ) -> None:
        self.clients_are_root = clients_are_root
        self.effects = Effects()
        self.system = system
        self.settings = settings
        self.entropy = entropy
        times = system.times
        self.deadline_us = times.kernel_deadline_ms * MILLISECOND_US
        hcall_terms = times.terms(times.lpar_lease_ms, by_beats=True)
        self.dialer = Dialer(HCALL, hcall_endpoint, identity, hcall_terms, self.effects)
        device_terms = times.terms(times.client_lease_ms, by_beats=False, session_limit=system.limits.sessions)
        self.listener = Listener(DEVICE, device_terms, self.effects, entropy, admit=self._admit)
        self.stop_due_us: int | None = None
        self.bye_said = False
        self.kernel = self._fresh_kernel()

    def _fresh_kernel(self) -> Kernel:
        kernel = Kernel(self.system, self.settings, self.dialer, self.listener, self.effects)
        kernel.calls.clients_are_root = self.clients_are_root
        return kernel

    def start(self, now_us: int) -> None:
        self.dialer.open(now_us)

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        if link == DEVICE:
            self._device_events(self.listener.receive(peer, envelope, now_us), now_us)
            return
        if self.bye_said and isinstance(envelope.body, ByeDone):
            self._exit(ExitCode.OK, "stopped: the hypervisor has taken the session back")
        self._hcall_events(self.dialer.receive(envelope, now_us), now_us)

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        if link == DEVICE:
            self.listener.unreachable(peer, now_us)

    def tick(self, now_us: int) -> None:
        self.kernel.alarms.tick(now_us)
        self.dialer.tick(now_us)
        self._device_events(self.listener.tick(now_us), now_us)
        if self.stop_due_us is not None:
            self._wind_up(self.stop_due_us, now_us)

    def wake_us(self) -> int | None:
        return earliest(self.kernel.alarms.wake_us(), self.dialer.wake_us(), self.listener.wake_us(), self.stop_due_us)

    def stop(self, now_us: int) -> None:
        """Refuse opens, close every window through the driver, take leave of the hypervisor, then exit.

        After the kernel's deadline it exits with whatever is left; the hypervisor takes that back with the lease.
        """
        if self.stop_due_us is None:
            self.stop_due_us = now_us + self.deadline_us
            self.kernel.calls.shut_down(now_us)
            self._wind_up(self.stop_due_us, now_us)

    def suspend(self, now_us: int) -> None:
        """One event of a migration alone, without a stream: close every window."""
        self.kernel.migrate(MigrationAction.SUSPEND, now_us)

    def resume(self, now_us: int) -> None:
        """The other event: reopen what it closed."""
        self.kernel.migrate(MigrationAction.RESUME, now_us)

    def statistics(self) -> KernelStatistics:
        """A frozen snapshot of this boot's counts."""
        return self.kernel.statistics()

    def metrics(self) -> list[Family]:
        """This boot's counts and the present state, for a monitoring system."""
        return self.kernel.metrics()

    def _admit(self, hello: Hello) -> Refused | None:
        if hello.role != "client":
            return refuse(RefusalCode.UNKNOWN_NAME, "the role client", f"{hello.role} {hello.name!r}")
        if self.stop_due_us is None:
            return None
        return refuse(RefusalCode.DRAINING, "a partition that is up", "a new process during shutdown", 1000)

    def _device_events(self, events: list[Event], now_us: int) -> None:
        for event in events:
            if isinstance(event, Opened):
                self.kernel.calls.started(event.session)
            elif isinstance(event, Closed):
                self.kernel.calls.exited(event.session, now_us)
            elif isinstance(event, Called):
                self.kernel.called(event, now_us)
            elif isinstance(event, Answered):
                self.kernel.process_answered(event, now_us)

    def _hcall_events(self, events: list[Event], now_us: int) -> None:
        for event in events:
            if isinstance(event, Established) and not event.resumed:
                self._established()
                self.kernel.boot(now_us)
            elif isinstance(event, Answered):
                self.kernel.answered(event, now_us)
            elif isinstance(event, Noticed):
                self.kernel.noticed(event, now_us)
            elif isinstance(event, Ended):
                self._ended(event.refusal, now_us)

    @property
    def name(self) -> str:
        """The partition's name; that of the template while it has no slot."""
        return self.dialer.session.name

    def _established(self) -> None:
        if self.dialer.identity.role == SLOT:
            self.effects.note("info", "slot_claimed", lpar=self.name, epoch=self.dialer.session.epoch)

    def _ended(self, refusal: Refused, now_us: int) -> None:
        """The hypervisor has ended the session and taken the windows back, so the partition restarts."""
        why = f"{refusal.code}: expected {refusal.expected}, came {refusal.came}"
        if refusal.code is not RefusalCode.SESSION_DEAD:
            self._exit(ExitCode.REFUSED, why)
            return
        if self.stop_due_us is not None:
            self._exit(ExitCode.OK, "stopped: the session was dead already")
            return
        self.effects.note("error", "partition_restarted", lpar=self.name, epoch=self.dialer.session.epoch, why=why)
        for session in list(self.listener.sessions.values()):
            self.listener.close(session, Ending.REPLACED)
        self.kernel = self._fresh_kernel()
        self.dialer.start_over(self.entropy(INCARNATION_BYTES), now_us)

    def _wind_up(self, due_us: int, now_us: int) -> None:
        if now_us >= due_us:
            windows, operations = self.kernel.left_behind
            left = f"left behind: {windows} windows, {operations} operations under way"
            self._exit(ExitCode.UNFINISHED, f"stopped at the deadline; {left}; the hypervisor takes them back")
        elif self.kernel.is_idle and not self.bye_said:
            if not self.dialer.established:
                self._exit(ExitCode.OK, "stopped without a session")
                return
            self.bye_said = True
            self.dialer.say_bye()

    def _exit(self, code: ExitCode, reason: str) -> None:
        if self.effects.exit is None:
            self.effects.exit = Exit(code, reason)
