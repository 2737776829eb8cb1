"""The process's session with its partition's kernel: calls in both directions, its beginning, its death. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lpar.client.errors import MessageRefused, SegmentationFault, session_dead
from lpar.client.links import DEVICE_KEY
from lpar.client.pastes import PasteTraffic
from lpar.client.steps import Answer, Call, Connect, Depart
from lpar.client.tasks import WAITING, Scheduler, Task
from protocol.codes import KernelReason
from protocol.device_messages import (
    CloseDescriptor,
    CsbUpdated,
    DeviceOpened,
    Mapped,
    OsFailure,
    RaiseSignal,
    SignalTaken,
    Unmap,
    UpdateCsb,
)
from protocol.dialer import Dialer, Identity
from protocol.effects import Effects
from protocol.message import Reply, Request
from protocol.refusals import RefusalCode
from protocol.session import Answered, Called, Ended, Established, Terms
from protocol.session_messages import ByeDone, Refused
from protocol.wire import Envelope

INCARNATION_BYTES = 16
CLIENT_TERMS = Terms(by_beats=False)
"""A client's life is its connection: it does not beat, and silence counts only while a call is unanswered."""


class KernelSession:
    """Carries out the steps that concern the kernel, and what the kernel asks of the process.

    `death` is the signal that ended the process. Until a `Connect` that renews, every other step fails then.
    """

    def __init__(
        self,
        endpoint: str,
        identity: Identity,
        entropy: Callable[[int], bytes],
        effects: Effects,
        scheduler: Scheduler,
        pastes: PasteTraffic,
    ) -> None:
        self.endpoint = endpoint
        self.entropy = entropy
        self.scheduler = scheduler
        self.pastes = pastes
        self.dialer = Dialer(DEVICE_KEY, endpoint, identity, CLIENT_TERMS, effects)
        self.death: RaiseSignal | None = None
        self._renewing = False
        self._calls: dict[int, Task[Any]] = {}
        self._connecting: list[Task[Any]] = []
        self._departing: list[Task[Any]] = []

    @property
    def epoch(self) -> int:
        """The session's epoch; 0 until the kernel has welcomed this process."""
        return self.dialer.session.epoch

    @property
    def is_alive(self) -> bool:
        """Whether the process and its session live, as far as is known."""
        return self.death is None and not self.dialer.ended

    def check_alive(self) -> None:
        """Raises SegmentationFault in a process that a signal has ended."""
        if self.death is not None:
            raise SegmentationFault(self.death)

    def begin_call(self, task: Task[Any], step: Call, now_us: int) -> None:
        """Make a system call. Raises KernelFailure where the session is over."""
        if self.dialer.ended or step.epoch not in (None, self.epoch):
            raise session_dead()
        number = self.dialer.call(self.dialer.session, step.body, now_us)
        self._calls[number] = task
        task.unhook = lambda: _forget(self._calls, number)
        self.scheduler.expire(task, step.deadline_us, f"the kernel at {self.endpoint} did not answer {step.body.type}")

    def begin_connect(self, task: Task[Any], step: Connect, now_us: int) -> object:
        """Wait for a session; begin a new one if that is asked for and the last is over."""
        if not step.renew:
            self.check_alive()
        if not self.is_alive:
            if not step.renew:
                raise session_dead()
            self._renew(now_us)
        elif self.epoch:
            return self.epoch
        self._connecting.append(task)
        task.unhook = lambda: self._connecting.remove(task)
        self.scheduler.expire(
            task,
            step.deadline_us,
            f"no kernel welcomed this process at {self.endpoint}: is that partition running (`vasbus status`)?",
        )
        return WAITING

    def begin_depart(self, task: Task[Any], step: Depart) -> object:
        """Say BYE and wait for its answer; a dead process says nothing."""
        if not self.dialer.established or self.death is not None:
            return False
        self.dialer.say_bye()
        self._departing.append(task)
        task.unhook = lambda: self._departing.remove(task)
        task.timer = self.scheduler.timers.at(step.deadline_us, lambda _now_us: self.scheduler.resume(task, False))
        return WAITING

    def post(self, body: Request, epoch: int, now_us: int) -> None:
        """Make a call whose answer nobody waits for."""
        if self.is_alive and epoch == self.epoch:
            self.dialer.call(self.dialer.session, body, now_us)

    def undialable(self, failure: OSError) -> None:
        """The endpoint is no address: whoever waits gets `failure`."""
        for task in [*self._calls.values(), *self._connecting]:
            self.scheduler.resume(task, error=failure)

    def receive(self, envelope: Envelope, now_us: int) -> None:
        """The kernel said something."""
        if isinstance(envelope.body, ByeDone):
            for task in list(self._departing):
                self.scheduler.resume(task, True)
        if isinstance(envelope.body, Refused) and envelope.body.code is RefusalCode.DRAINING and not self.epoch:
            self._not_admitted(envelope.body)
        for event in self.dialer.receive(envelope, now_us):
            if isinstance(event, Established):
                self._established()
            elif isinstance(event, Answered):
                self._answered(event.number, event.reply, now_us)
            elif isinstance(event, Called):
                self._called(event, now_us)
            elif isinstance(event, Ended):
                self._session_ended(event.refusal)
        if self._renewing and self.dialer.ended:
            self._renew(now_us)

    def _established(self) -> None:
        if self._renewing:
            self.dialer.say_bye()
            return
        for task in list(self._connecting):
            self.scheduler.resume(task, self.epoch)

    def _answered(self, number: int, reply: Reply | Refused, now_us: int) -> None:
        if isinstance(reply, OsFailure) and reply.reason is KernelReason.KILLED and self.death is None:
            # A killed process returns from no call: the signal is on its way and ends this one.
            return
        task = self._calls.pop(number, None)
        if task is None:
            self._undo_late(reply, now_us)
        elif isinstance(reply, Refused):
            self.scheduler.resume(task, error=_refusal("the kernel refused a call", reply))
        else:
            self.scheduler.resume(task, Answer(reply, self.epoch))

    def _called(self, event: Called, now_us: int) -> None:
        """The kernel writes a status block or ends the process; both are answered whether they matter or not."""
        body = event.body
        if isinstance(body, UpdateCsb):
            self.pastes.write_csb(body.csb_address, body.csb, now_us)
            self.dialer.answer(event.session, event.number, CsbUpdated())
        elif isinstance(body, RaiseSignal):
            self.dialer.answer(event.session, event.number, SignalTaken())
            self._die(body, now_us)

    def _die(self, raised: RaiseSignal, now_us: int) -> None:
        """The default action of a signal: every procedure ends, except one that waits for a new process."""
        if self.death is not None:
            return
        self.death = raised
        self.pastes.clear_queues()
        for task in list(self.scheduler.tasks.values()):
            if task not in self._departing:
                self.scheduler.resume(task, error=SegmentationFault(raised))
        self._calls.clear()
        self.pastes.abandon_all(now_us)

    def _renew(self, now_us: int) -> None:
        """Become a new process: at once, or as soon as the kernel has taken leave of the one that died.

        The BYE goes the same way as the answer to the signal, so that it cannot come before it; whatever the kernel
        answers to it says that the old session is over, and its name free.
        """
        if self.dialer.ended:
            self.death, self._renewing = None, False
            self.dialer.start_over(self.entropy(INCARNATION_BYTES), now_us)
        elif not self._renewing:
            self._renewing = True
            self.dialer.say_bye()

    def _undo_late(self, reply: Reply | Refused, now_us: int) -> None:
        """An answer after its caller had left: what it opened is closed again."""
        if isinstance(reply, DeviceOpened):
            self.post(CloseDescriptor(descriptor=reply.descriptor), self.epoch, now_us)
        elif isinstance(reply, Mapped):
            self.post(Unmap(mapping=reply.mapping), self.epoch, now_us)

    def _not_admitted(self, refusal: Refused) -> None:
        """The partition is shutting down: who waits for a session there is told instead of waiting on."""
        error = _refusal(f"the kernel at {self.endpoint} admits no new process", refusal)
        for task in list(self._connecting):
            self.scheduler.resume(task, error=error)

    def _session_ended(self, refusal: Refused) -> None:
        dead = refusal.code is RefusalCode.SESSION_DEAD
        waiting = list(self._calls.values())
        if not (dead and self._renewing):
            waiting += self._connecting
        for task in waiting:
            error = session_dead() if dead else _refusal(f"the kernel at {self.endpoint} admits no session", refusal)
            self.scheduler.resume(task, error=error)
        self._calls.clear()


def _forget(calls: dict[int, Task[Any]], number: int) -> None:
    calls.pop(number, None)


def _refusal(what: str, refusal: Refused) -> MessageRefused:
    text = f"{what}: {refusal.code}: expected {refusal.expected}, came {refusal.came}"
    return MessageRefused(refusal.code, text)
