"""The client's core: one session with the partition's kernel, pastes to NX units, and the procedures that use them.

Pure: it is told what arrived and what time it is, and leaves what it wants done in `effects`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lpar.client.errors import LparClosed
from lpar.client.kernel_session import INCARNATION_BYTES, KernelSession
from lpar.client.links import DEVICE_KEY
from lpar.client.pastes import PasteTraffic, PendingPaste
from lpar.client.shared_windows import SharedWindows
from lpar.client.steps import (
    Acquire,
    Await,
    Call,
    Compute,
    Connect,
    Depart,
    IfCancelled,
    Now,
    Sleep,
    Step,
    Submit,
)  # fmt: skip
from lpar.client.tasks import WAITING, Scheduler, Task
from lpar.client.timers import Timers
from protocol.clock import earliest
from protocol.codes import ExitCode
from protocol.dialer import Dialer, Identity
from protocol.effects import Effects, Exit, Peer
from protocol.wire import Envelope


class ClientCore:
    """The pure part of a client process. `entropy(n)` gives n unguessable bytes.

    `windows` are what libnxz has in static variables: one per process.
    """

    def __init__(self, endpoint: str, name: str, network: str, pid: int, entropy: Callable[[int], bytes]) -> None:
        self.endpoint = endpoint
        self.effects = Effects()
        self.timers = Timers()
        self.closed = False
        self.windows = SharedWindows()
        identity = Identity("client", name, entropy(INCARNATION_BYTES), network, pid, {})
        self.pastes = PasteTraffic(network, endpoint, self.effects, self.timers, self._paste_changed)
        self.scheduler = Scheduler(self.timers, self._begin)
        self.kernel = KernelSession(endpoint, identity, entropy, self.effects, self.scheduler, self.pastes)
        self._paste_waits: dict[int, list[Callable[[], None]]] = {}

    @property
    def dialer(self) -> Dialer:
        """The session's end here."""
        return self.kernel.dialer

    @property
    def epoch(self) -> int:
        """The session's epoch; 0 until the kernel has welcomed this process."""
        return self.kernel.epoch

    def start(self, now_us: int) -> None:
        """Dial the partition's kernel."""
        self.dialer.open(now_us)

    def receive(self, link: str, peer: Peer, envelope: Envelope, now_us: int) -> None:
        """A message arrived on the connection with this key."""
        if self.closed:
            return
        if link == DEVICE_KEY:
            self.kernel.receive(envelope, now_us)
        else:
            self.pastes.receive(link, envelope, now_us)
        self.scheduler.run(now_us)

    def unreachable(self, link: str, peer: Peer, now_us: int) -> None:
        """Dialled connections mend themselves; only silence counts."""

    def undialable(self, link: str, failure: OSError, now_us: int) -> None:
        """The endpoint is no address: whoever waits for something from there gets `failure`."""
        if link == DEVICE_KEY:
            self.kernel.undialable(failure)
        else:
            self.pastes.undialable(link, failure, now_us)
        self.scheduler.run(now_us)

    def shut_out(self, link: str, failure: OSError, now_us: int, *, definite: bool) -> None:
        """No connection comes about because of the keys. `definite`: the listener itself has said so.

        Otherwise handshakes are broken off, as a forwarder does whose listener is being restarted. Who has reached
        that listener before has the right keys: what is asked of it waits for its deadline.
        """
        reached = self.epoch != 0 if link == DEVICE_KEY else self.pastes.has_heard(link)
        if definite or not reached:
            self.undialable(link, failure, now_us)

    def tick(self, now_us: int) -> None:
        """Repeat, redial and let deadlines pass."""
        if self.closed:
            return
        self.dialer.tick(now_us)
        self.timers.fire(now_us)
        self.scheduler.run(now_us)

    def wake_us(self) -> int | None:
        """When `tick` is wanted next."""
        return None if self.closed else earliest(self.timers.wake_us(), self.dialer.wake_us())

    def stop(self, now_us: int) -> None:
        """End at once: procedures under way get LparClosed."""
        self.closed = True
        for task in list(self.scheduler.tasks.values()):
            self.scheduler.resume(task, error=LparClosed("the Lpar was closed"))
        self.scheduler.run(now_us)
        self.pastes.close()
        self.dialer.hang_up()
        self.effects.exit = Exit(ExitCode.OK, "closed")

    def submit(self, task: Task[Any], now_us: int) -> None:
        """Start a procedure. Raises LparClosed."""
        if self.closed:
            task.procedure.close()
            raise LparClosed("the Lpar was closed")
        self.scheduler.submit(task)
        self.scheduler.run(now_us)

    def computed(self, task: Task[Any], value: object, error: BaseException | None, now_us: int) -> None:
        """The driver has done the task's work."""
        if not task.done:
            self.scheduler.resume(task, value, error)
            self.scheduler.run(now_us)

    def cancel(self, task: Task[Any], now_us: int) -> None:
        """The caller gave the procedure up; what it had opened so far is closed, as far as nobody else uses it."""
        if task.done:
            return
        undo = task.undo
        self.scheduler.cancel(task)
        if undo is not None:
            self.kernel.post(*undo, now_us)
        if self.windows.is_untidy:
            self.scheduler.submit(Task(self.windows.tidy()))
        self.scheduler.run(now_us)

    def abandon(self, pending: PendingPaste, now_us: int) -> None:
        """Nobody will ask for this paste's CSB any more."""
        self.pastes.abandon(pending, now_us)
        self.scheduler.run(now_us)

    def _begin(self, task: Task[Any], step: Step, now_us: int) -> object:
        """Begin a step: its result, or WAITING."""
        if self.closed:
            raise LparClosed("the Lpar was closed")
        match step:
            case Now():
                return now_us
            case Connect():
                return self.kernel.begin_connect(task, step, now_us)
            case Depart():
                return self.kernel.begin_depart(task, step)
        self.kernel.check_alive()
        match step:
            case IfCancelled():
                task.undo = None if step.body is None else (step.body, self.epoch)
                return None
            case Compute():
                task.work = step.work
            case Sleep():
                task.timer = self.timers.at(step.until_us, lambda _now_us: self.scheduler.resume(task))
            case Call():
                self.kernel.begin_call(task, step, now_us)
            case Submit():
                pending = self.pastes.submit(step.address, step.request, now_us)
                return self._begin_paste_wait(task, pending, step, now_us)
            case Await():
                return self._begin_paste_wait(task, step.pending, step, now_us)
            case Acquire():
                return self._begin_acquire(task, step)
        return WAITING

    def _begin_paste_wait(self, task: Task[Any], pending: PendingPaste, step: Submit | Await, now_us: int) -> object:
        """Wait until a paste is answered (Submit) or settled (Await)."""
        submits = isinstance(step, Submit)
        keeps = isinstance(step, Await) and step.keep

        def is_over() -> bool:
            return pending.is_answered if submits else pending.is_settled

        def look() -> None:
            if is_over():
                self.scheduler.resume(task, pending)

        def unhook() -> None:
            waits.remove(look)
            if not waits:
                self._paste_waits.pop(pending.number, None)
                self.pastes.let_go(pending)
            if not is_over() and not keeps:
                self.pastes.abandon(pending, now_us)

        if is_over():
            return pending
        waits = self._paste_waits.setdefault(pending.number, [])
        waits.append(look)
        task.unhook = unhook
        self.pastes.hold(pending, now_us)
        what = "answer a paste" if submits else "complete a request"
        self.scheduler.expire(task, step.deadline_us, f"{pending.address.unit} at {pending.endpoint} did not {what}")
        return WAITING

    def _begin_acquire(self, task: Task[Any], step: Acquire) -> object:
        mutex = step.mutex
        if mutex.holder is None:
            mutex.holder = task
            return None
        mutex.grant = self.scheduler.resume
        mutex.waiting.append(task)
        task.unhook = lambda: mutex.waiting.remove(task) if task in mutex.waiting else None
        self.scheduler.expire(task, step.deadline_us, "the window was in use by other threads all the time")
        return WAITING

    def _paste_changed(self, pending: PendingPaste) -> None:
        for look in list(self._paste_waits.get(pending.number, ())):
            look()
