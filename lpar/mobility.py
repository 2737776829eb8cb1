"""/sys/kernel/mobility/migration: pseries_migrate_partition. Source: domain.md 5.7.

Writing the id of a migration stream migrates the partition; the write returns when that is over. Windows are closed
first of all, before the stream is asked after, and reopened in all cases. Differs from Linux: it sleeps 100 ms between
its questions for the state instead of 1 s (500 ms while memory is moved), and a second write meanwhile is EBUSY, where
Linux lets two writers interfere with each other.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from lpar.driver import Operation, VasDriver
from lpar.failure import os_failure
from lpar.hcall import HcallReturn
from lpar.migration import MigrationAction, MigrationEvents
from lpar.sysfs import READ_ONLY, WRITE_ONLY, File, FileTree, Stored, unsigned_number
from lpar.walk import Reconfiguration
from protocol.clock import MILLISECOND_US
from protocol.codes import VASI_SIGNAL_CANCEL, HcallCode, KernelReason, VasiState
from protocol.device_messages import OsFailure
from protocol.mobility_messages import HJoin, HVasiSignal, HVasiState, VasiStateTold

MOBILITY_FOLDER = "/sys/kernel/mobility"
MIGRATION = f"{MOBILITY_FOLDER}/migration"
API_VERSION = f"{MOBILITY_FOLDER}/api_version"
STATE_POLL_US = 100 * MILLISECOND_US
TRANSFER_POLL_US = 500 * MILLISECOND_US
SUSPEND_ATTEMPTS = 5
FIRST_RETRY_MS = 1
RETRY_FACTOR = 10
STREAM_ID_MAX = (1 << 64) - 1


class MobilityStage(Enum):
    """What a migration waits for."""

    CLOSING = auto()
    ENABLED = auto()
    SUSPEND = auto()
    FAILED_SUSPEND = auto()
    TRANSFER = auto()
    CANCEL = auto()
    REOPENING = auto()


class MigratePartition(Operation):
    """One write of a stream id. Not counted as under way: a shutdown need not wait for the hypervisor's hold."""

    def __init__(
        self, driver: VasDriver, events: MigrationEvents, stream_id: int, done: Callable[[Reconfiguration, int], None]
    ) -> None:
        super().__init__(driver)
        self.events = events
        self.stream_id = stream_id
        self.result = Reconfiguration()
        self.attempt = 1
        self.retry_ms = FIRST_RETRY_MS
        self._done = done

    def start(self, now_us: int) -> None:
        """Close the windows before anything else: the hypervisor may have changed the mappings already."""
        self.stage = MobilityStage.CLOSING
        self.events.request(MigrationAction.SUSPEND, now_us, self._closed)

    def _closed(self, suspended: Reconfiguration, now_us: int) -> None:
        self.result.closed = suspended.closed
        self._ask(MobilityStage.ENABLED, now_us)

    def returned(self, answer: HcallReturn, now_us: int) -> None:
        if self.stage is MobilityStage.ENABLED:
            self._until_suspending(answer, now_us)
        elif self.stage is MobilityStage.SUSPEND:
            self._suspended(answer, now_us)
        elif self.stage is MobilityStage.FAILED_SUSPEND:
            self._try_again(answer, now_us)
        elif self.stage is MobilityStage.TRANSFER:
            self._until_completed(answer, now_us)
        else:
            if not answer.succeeded:
                self._note("error", "migration_not_cancelled", why=answer.words)
            self._reopen(now_us)

    def _until_suspending(self, answer: HcallReturn, now_us: int) -> None:
        """wait_for_vasi_session_suspending: anything but ENABLED and SUSPENDING aborts."""
        state = _state(answer)
        if state is VasiState.SUSPENDING:
            self._suspend(now_us)
        elif state is VasiState.ENABLED:
            self._sleep(STATE_POLL_US, lambda moment_us: self._ask(MobilityStage.ENABLED, moment_us), now_us)
        else:
            self.result.failure = state if isinstance(state, OsFailure) else _unexpected(state)
            self._reopen(now_us)

    def _suspend(self, now_us: int) -> None:
        """pseries_suspend: every processor joins, the last one asks to be moved."""
        self.hcall(MobilityStage.SUSPEND, HJoin(stream_id=self.stream_id), now_us)

    def _suspended(self, answer: HcallReturn, now_us: int) -> None:
        if answer.succeeded:
            self.result.failure = None
            self._ask(MobilityStage.TRANSFER, now_us)
            return
        self._note("warning", "suspend_failed", attempt=self.attempt, attempts=SUSPEND_ATTEMPTS, why=answer.words)
        refused = KernelReason.NOT_SUSPENDED if answer.code is HcallCode.H_STATE else KernelReason.HCALL_FAILED
        self.result.failure = os_failure(refused, answer.words, answer.code)
        if self.attempt == SUSPEND_ATTEMPTS:
            self._cancel(now_us)
        else:
            self._ask(MobilityStage.FAILED_SUSPEND, now_us)

    def _try_again(self, answer: HcallReturn, now_us: int) -> None:
        """While the stream is still SUSPENDING the cause may pass: sleep 1 ms, then ten times as long each time."""
        if _state(answer) is not VasiState.SUSPENDING:
            self._cancel(now_us)
            return
        retry_us = self.retry_ms * MILLISECOND_US
        self.attempt, self.retry_ms = self.attempt + 1, self.retry_ms * RETRY_FACTOR
        self._sleep(retry_us, self._suspend, now_us)

    def _until_completed(self, answer: HcallReturn, now_us: int) -> None:
        """wait_for_vasi_session_completed: a stream that is gone is complete; an error ends the wait, nothing more."""
        state = _state(answer)
        if state is VasiState.RESUMED:
            self._sleep(TRANSFER_POLL_US, lambda moment_us: self._ask(MobilityStage.TRANSFER, moment_us), now_us)
            return
        if state is not VasiState.COMPLETED and answer.code is not HcallCode.H_PARAMETER:
            failure = state if isinstance(state, OsFailure) else _unexpected(state)
            self._note("error", "transfer_unknown", why=failure.detail)
        self._reopen(now_us)

    def _cancel(self, now_us: int) -> None:
        signal = HVasiSignal(stream_id=self.stream_id, signal=VASI_SIGNAL_CANCEL)
        self.hcall(MobilityStage.CANCEL, signal, now_us)

    def _reopen(self, now_us: int) -> None:
        """In all cases. What goes wrong here is logged; the write does not fail for it."""
        self.stage = MobilityStage.REOPENING
        self.events.request(MigrationAction.RESUME, now_us, self._reopened)

    def _reopened(self, resumed: Reconfiguration, now_us: int) -> None:
        self.result.reopened = resumed.reopened
        failure = self.result.failure
        if failure is None:
            self._note("info", "migrated")
        else:
            self._note("error", "not_migrated", why=failure.detail)
        self._done(self.result, now_us)

    def _ask(self, stage: MobilityStage, now_us: int) -> None:
        self.hcall(stage, HVasiState(stream_id=self.stream_id), now_us)

    def _sleep(self, wait_us: int, then: Callable[[int], None], now_us: int) -> None:
        self.driver.alarms.set(now_us + wait_us, then)

    def _note(self, level: str, event: str, **facts: object) -> None:
        self.driver.note(level, event, stream=self.stream_id, **facts)


class MigrationFile:
    """The file. A number is parsed as kstrtou64 does, with base 0."""

    def __init__(self, driver: VasDriver, events: MigrationEvents) -> None:
        self.driver = driver
        self.events = events
        self.busy = False

    def add_to(self, files: FileTree) -> None:
        files.add(MIGRATION, File(WRITE_ONLY, store=self.store))
        files.add(API_VERSION, File(READ_ONLY, lambda: "1\n"))

    def store(self, text: str, now_us: int, stored: Stored) -> None:
        """Migrate. EINVAL: no number, or no such stream; ERANGE: above 64 bits; EIO or EAGAIN: it was not moved."""
        stream_id = unsigned_number(text)
        if stream_id is None:
            stored(os_failure(KernelReason.BAD_NUMBER, f"{text[:40]!r} is no stream id"), now_us)
        elif stream_id > STREAM_ID_MAX:
            stored(os_failure(KernelReason.NUMBER_RANGE, f"a stream id has 64 bits, came {text[:40]!r}"), now_us)
        elif self.busy:
            stored(os_failure(KernelReason.MIGRATION, "another migration is under way"), now_us)
        else:
            self.busy = True

            def done(result: Reconfiguration, moment_us: int) -> None:
                self.busy = False
                stored(result, moment_us)

            MigratePartition(self.driver, self.events, stream_id, done).start(now_us)


def _state(answer: HcallReturn) -> VasiState | OsFailure:
    """poll_vasi_state. A hypervisor without the hcall is gone on with: H_JOIN will tell."""
    if answer.succeeded and isinstance(answer.reply, VasiStateTold):
        return answer.reply.state
    if answer.code is HcallCode.H_FUNCTION:
        return VasiState.SUSPENDING
    reason = KernelReason.NO_STREAM if answer.code is HcallCode.H_PARAMETER else KernelReason.HCALL_FAILED
    return os_failure(reason, answer.words, answer.code)


def _unexpected(state: VasiState) -> OsFailure:
    return os_failure(KernelReason.NOT_MOVED, f"the stream is {state.name}: {state.meaning}")
