"""System calls of client processes on /dev/crypto/nx-gzip and on the partition's files. Source: domain.md 3.

A client process is a session of the device link. When it ends, the kernel closes what it held; a system call still
under way goes on without its caller, as a thread in the kernel would.
"""

from __future__ import annotations

from lpar.close import CloseWindow
from lpar.driver import VasDriver
from lpar.failure import os_failure
from lpar.fault import vas_mmap_fault
from lpar.mmap import coproc_mmap
from lpar.open import OpenWindow, attribute_failure
from lpar.process import DeviceFile, Process, munmap
from lpar.sysfs import FileTree
from lpar.walk import Reconfiguration
from lpar.window import TaskReference, Window
from protocol.codes import KernelReason
from protocol.device_messages import (
    CloseDescriptor,
    DeviceOpened,
    Done,
    Fault,
    FileText,
    Mapped,
    Mmap,
    OpenDevice,
    OsFailure,
    ReadFile,
    TxWinOpen,
    Unmap,
    WindowOpened,
    WriteFile,
)
from protocol.listener import Listener
from protocol.message import Reply
from protocol.session import Called, Session


class SystemCalls:
    """The processes of a partition and their system calls. Each call is answered once, now or when it is over."""

    def __init__(self, listener: Listener, driver: VasDriver, files: FileTree, descriptor_limit: int) -> None:
        self.listener = listener
        self.driver = driver
        self.files = files
        self.descriptor_limit = descriptor_limit
        self.clients_are_root = True
        self.processes: dict[str, Process] = {}
        self.closing = False

    def started(self, session: Session) -> None:
        """A process came up."""
        self.processes[session.name] = Process(session, session.pid)

    def exited(self, session: Session, now_us: int) -> None:
        """A process ended: its mappings and descriptors go, and with them its windows."""
        process = self.process_of(session)
        if process is not None:
            del self.processes[session.name]
            self._tear_down(process, now_us)

    def process_of(self, session: Session) -> Process | None:
        """The process that this session is, unless it has exited."""
        process = self.processes.get(session.name)
        return process if process is not None and process.session is session else None

    def running(self, session: Session) -> Process | None:
        """The process that this session is, unless it has exited or is exiting."""
        process = self.process_of(session)
        return None if process is None or process.killed else process

    def kill(self, process: Process, now_us: int) -> None:
        """A signal ends the process: everything it held goes, as at an exit, but its session stays for now."""
        process.killed = True
        self._tear_down(process, now_us)

    def shut_down(self, now_us: int) -> None:
        """No more opens; every window is closed, as if every process ended. Their sessions stay."""
        self.closing = True
        for process in self.processes.values():
            process.dead = True
            self._tear_down(process, now_us)

    def called(self, event: Called, now_us: int) -> None:
        """Carry a system call out."""
        process, number, body = self.processes[event.session.name], event.number, event.body
        if process.killed:
            self._answer(process, number, os_failure(KernelReason.KILLED))
        elif isinstance(body, ReadFile):
            self._read_file(process, number, body)
        elif process.dead or self.closing:
            opens = isinstance(body, OpenDevice)
            reason = KernelReason.NO_DEVICE if opens else KernelReason.DEAD
            self._answer(process, number, os_failure(reason, "the partition is shutting down"))
        elif isinstance(body, WriteFile):
            self._write_file(process, number, body, now_us)
        elif isinstance(body, OpenDevice):
            self._open_device(process, number)
        elif isinstance(body, TxWinOpen):
            self._tx_win_open(process, number, body, now_us)
        elif isinstance(body, Mmap):
            self._mmap(process, number, body)
        elif isinstance(body, Fault):
            self._fault(process, number, body)
        elif isinstance(body, Unmap):
            self._unmap(process, number, body, now_us)
        elif isinstance(body, CloseDescriptor):
            self._close_descriptor(process, number, body, now_us)

    def _answer(self, process: Process, number: int, reply: Reply) -> None:
        """Answer a call, unless its process was killed meanwhile: then nothing that it did matters any more."""
        if process.killed:
            reply = os_failure(KernelReason.KILLED)
        if isinstance(reply, OsFailure):
            self.driver.tally.refusals[reply.reason] += 1
        self.listener.answer(process.session, number, reply)

    def _open_device(self, process: Process, number: int) -> None:
        if not self.driver.copy_paste:
            self._answer(process, number, os_failure(KernelReason.NO_DEVICE, "copy/paste is not offered"))
        elif len(process.descriptors) >= self.descriptor_limit:
            detail = f"at most {self.descriptor_limit} descriptors"
            self._answer(process, number, os_failure(KernelReason.LIMIT, detail))
        else:
            self._answer(process, number, DeviceOpened(descriptor=process.install(DeviceFile())))

    def _tx_win_open(self, process: Process, number: int, body: TxWinOpen, now_us: int) -> None:
        """coproc_ioc_tx_win_open. A second ioctl beside a running one is EEXIST; Linux would lose the first window."""
        file = process.descriptors.get(body.descriptor)
        if file is None:
            self._answer(process, number, os_failure(KernelReason.BAD_DESCRIPTOR, f"descriptor {body.descriptor}"))
            return
        exists = file.window is not None or file.opening
        failure = os_failure(KernelReason.WINDOW_EXISTS) if exists else attribute_failure(body)
        if failure is not None:
            self._answer(process, number, failure)
            return
        file.references += 1
        file.opening = True

        def done(outcome: Window | OsFailure, moment_us: int) -> None:
            self._window_opened(process, file, number, outcome, moment_us)

        task = TaskReference(process.session, body.thread_id)
        OpenWindow(self.driver, process.pid, task, body, done).start(now_us)

    def _window_opened(
        self, process: Process, file: DeviceFile, number: int, outcome: Window | OsFailure, now_us: int
    ) -> None:
        file.opening = False
        reply: Reply
        if isinstance(outcome, Window):
            file.window = outcome
            if outcome.descriptor is None or process.descriptors.get(outcome.descriptor) is not file:
                outcome.descriptor = None
            reply = WindowOpened(window_id=outcome.window_id)
        else:
            reply = outcome
        self._answer(process, number, reply)
        self._put(file, None, now_us)

    def _mmap(self, process: Process, number: int, body: Mmap) -> None:
        file = process.descriptors.get(body.descriptor)
        if file is None:
            self._answer(process, number, os_failure(KernelReason.BAD_DESCRIPTOR, f"descriptor {body.descriptor}"))
            return
        if len(process.mappings) >= self.descriptor_limit:
            self._answer(process, number, os_failure(KernelReason.LIMIT, f"at most {self.descriptor_limit} mappings"))
            return
        outcome = coproc_mmap(process, file, body)
        if isinstance(outcome, OsFailure):
            self._answer(process, number, outcome)
        else:
            mapping, address = outcome
            self._answer(process, number, Mapped(mapping=mapping.number, address=address))

    def _fault(self, process: Process, number: int, body: Fault) -> None:
        file, mapping = process.mappings.get(body.mapping, (None, None))
        handled = vas_mmap_fault(file, mapping, body.instruction)
        self.driver.tally.faults[handled.outcome] += 1
        self._answer(process, number, handled)

    def _unmap(self, process: Process, number: int, body: Unmap, now_us: int) -> None:
        if body.mapping not in process.mappings:
            self._answer(process, number, os_failure(KernelReason.BAD_DESCRIPTOR, f"mapping {body.mapping}"))
            return
        self._put(munmap(process, body.mapping), (process, number), now_us)

    def _close_descriptor(self, process: Process, number: int, body: CloseDescriptor, now_us: int) -> None:
        file = process.uninstall(body.descriptor)
        if file is None:
            self._answer(process, number, os_failure(KernelReason.BAD_DESCRIPTOR, f"descriptor {body.descriptor}"))
        else:
            self._put(file, (process, number), now_us)

    def _read_file(self, process: Process, number: int, body: ReadFile) -> None:
        text = self.files.read(body.path)
        self._answer(process, number, text if isinstance(text, OsFailure) else FileText(text=text))

    def _write_file(self, process: Process, number: int, body: WriteFile, now_us: int) -> None:
        def stored(outcome: Reconfiguration | OsFailure, _moment_us: int) -> None:
            failure = outcome.failure if isinstance(outcome, Reconfiguration) else outcome
            self._answer(process, number, Done() if failure is None else failure)

        if not self.clients_are_root and body.path in self.files.files:
            self._answer(process, number, os_failure(KernelReason.NOT_ROOT, body.path))
            return
        self.files.write(body.path, body.text, now_us, stored)

    def _tear_down(self, process: Process, now_us: int) -> None:
        for file in process.tear_down():
            self._put(file, None, now_us)

    def _put(self, file: DeviceFile, caller: tuple[Process, int] | None, now_us: int) -> None:
        """Drop a reference to a file (fput); the last one closes its window, and only then does the call return."""

        def done(_moment_us: int) -> None:
            if caller is not None:
                self._answer(*caller, Done())

        file.references -= 1
        window = file.window
        if file.references or window is None:
            done(now_us)
        else:
            file.window = None
            CloseWindow(self.driver, window, done).start(now_us)
