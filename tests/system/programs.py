"""Client programs of a workload: what each does with its windows, and whose death may keep it from that."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lpar.client import ClientError, Lpar, PasteRefused, Request, Window
from lpar.client.errors import KernelFailure, SegmentationFault
from lpar.client.steps import Depart, Procedure, now
from protocol.codes import CompletionCode, FunctionCode, HcallCode, KernelReason
from tests.system.actors import ProcessKilled
from tests.system.system import JOB_US, ClientHost, Host, System

TEXT = b"what a partition compresses, again and again " * 40
COMPRESS = Request(FunctionCode.COMPRESS_DHT, TEXT, len(TEXT))
FAULTING = Request(FunctionCode.COMPRESS_DHT, TEXT, len(TEXT), absent_source=frozenset({0}))
ENDING = Request(FunctionCode.COMPRESS_DHT, TEXT, len(TEXT), absent_source=frozenset({0}), csb_address=0)
"""Faults, and its status block is mapped nowhere: the kernel ends the process."""
PASTE_S = 15.0
LEASES_US = 2_500_000
"""Within this a dead process's credits are free again: a partition's lease of 1.5 s, or a client's, and what is due."""
LONG_JOB_US = 5_000
BUSY = (KernelReason.CLOSED_WINDOWS, KernelReason.MIGRATION)
USED = "/sys/devices/virtual/misc/vas/vas0/gzip/default_capabilities/nr_used_credits"
LPARCFG = "/proc/powerpc/lparcfg"


@dataclass(eq=False)
class Worker:
    """A client program: one process, started again when it was killed, and the windows that it means to have."""

    lpar: str
    process: Lpar | None = None
    windows: list[Window] = field(default_factory=list)
    qos: bool = False


@dataclass
class Programs:
    """The programs of one system, by name. `victims` are role and name of each process that was killed.

    `strict`: nothing of a survivor may fail. Not so where a process stays away for longer than others wait for it.
    """

    system: System
    victims: Sequence[tuple[str, str]] = ()
    strict: bool = True
    workers: dict[str, Worker] = field(default_factory=dict)

    def hold(self, name: str, count: int) -> None:
        """The program has this many windows: it starts if it does not run, opens what it lacks, closes what is more."""
        worker = self.workers[name]

        def act() -> None:
            process = self._running(worker)
            while len(worker.windows) > count:
                worker.windows.pop().close()
            while len(worker.windows) < count:
                worker.windows.append(self._open(process, qos=worker.qos))
                worker.windows[-1].map()

        self._as(worker, act)

    def paste(self, name: str) -> None:
        """Each window of the program compresses something."""
        worker = self.workers[name]

        def act() -> None:
            for window in worker.windows:
                csb = window.run(COMPRESS, PASTE_S)
                assert csb.code is CompletionCode.OK
                assert zlib.decompress(csb.target, wbits=-15) == TEXT

        self._as(worker, act)

    def read(self, name: str) -> None:
        """The program looks at sysfs."""
        worker = self.workers[name]

        def act() -> None:
            if worker.process is not None:
                worker.process.read(USED)

        self._as(worker, act)

    def fault(self, name: str) -> None:
        """A request meets an absent page; the page is touched, and the same window completes it."""
        worker = self.workers[name]

        def act() -> None:
            for window in worker.windows[:1]:
                csb = window.run(FAULTING, PASTE_S)
                assert csb.code is CompletionCode.TRANSLATION_FAULT
                assert window.run(FAULTING.touched(csb.fault_address), PASTE_S).code is CompletionCode.OK

        self._as(worker, act)

    def is_ended(self, name: str) -> None:
        """A request faults and has no status block: the kernel ends the process with SIGSEGV."""
        worker = self.workers[name]

        def act() -> None:
            for window in worker.windows[:1]:
                try:
                    window.run(ENDING, PASTE_S)
                except SegmentationFault:
                    return
                raise AssertionError("a status block was written at address 0")

        self._as(worker, act)
        self._gone(worker)

    def closes(self, name: str) -> None:
        """The program closes its oldest window."""
        worker = self.workers[name]

        def act() -> None:
            for window in worker.windows[:1]:
                window.close()
                worker.windows.remove(window)

        self._as(worker, act)

    def closes_busy(self, name: str) -> None:
        """The program closes its newest window while the engine is at a request of it: the window drains first."""
        worker = self.workers[name]

        def act() -> None:
            for window in worker.windows[-1:]:
                self.system.job_us = LONG_JOB_US
                window.map().paste(COMPRESS)
                worker.windows.remove(window)
                window.close()

        self._as(worker, act)
        self.system.job_us = JOB_US

    def refused_paste(self, name: str) -> None:
        """The program's windows have lost their credits: a paste on them is refused, unless a death has spared one."""
        worker = self.workers[name]

        def act() -> None:
            for window in worker.windows[-1:]:
                try:
                    window.run(COMPRESS, PASTE_S)
                except PasteRefused:
                    return

        self._as(worker, act)

    def over_the_limit(self, name: str) -> None:
        """The program opens more than its partition has: one too many is EINVAL, and nothing of it stays."""
        worker = self.workers[name]

        def act() -> None:
            process = self._running(worker)
            extra: list[Window] = []
            try:
                while len(extra) < 10:
                    extra.append(process.open_window())
            except KernelFailure as failure:
                if failure.reason not in (KernelReason.NO_CREDIT, *BUSY):
                    raise
            for window in extra:
                window.close()

        self._as(worker, act)

    def writes_entitlement(self, name: str, hundredths: int) -> None:
        """The partition asks for its entitlement itself (H_SET_PPP)."""
        worker = self.workers[name]
        self._as(worker, lambda: self._running(worker).write(LPARCFG, f"partition_entitled_capacity={hundredths}\n"))

    def goes(self, name: str) -> None:
        """The program exits without a word."""
        self._gone(self.workers[name])

    def leaves(self, name: str) -> None:
        """The program says BYE and exits."""
        worker = self.workers[name]
        self._as(worker, lambda: self._depart(worker))
        self._gone(worker)

    def _depart(self, worker: Worker) -> None:
        if worker.process is not None:
            worker.process.driver.run(_depart())

    # Who survives what.

    def explains(self, lpar: str, process: str = "") -> bool:
        """Whether a death is a reason for this failure: the process's, its partition's, or those of all NX units."""
        if not self.strict:
            return bool(self.victims)
        units = {name for role, name in self.victims if role == "nxunit"}
        if len(units) == len(self.system.settings.chip):
            return True
        return any((role == "lpar" and name == lpar) or name == process for role, name in self.victims)

    def _as(self, worker: Worker, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, ClientError, ProcessKilled) as error:
            # A process that was killed before it had its session has no handle yet.
            known = worker.process is not None and not isinstance(error, ProcessKilled)
            host = _host(worker.process).name if known and worker.process is not None else str(error)
            if not self.explains(worker.lpar, host):
                raise AssertionError(f"a survivor on {worker.lpar} ({host}): {error!r}") from error
            self._gone(worker)

    def _open(self, process: Lpar, *, qos: bool) -> Window:
        """Open a window, again while a dead process still has the credit: for a lease and a little at most.

        A partition that was restarted finds its old windows' credits held by the hypervisor: H_RESOURCE, while the NX
        unit that has them is down.
        """
        give_up_us = self.system.now_us + LEASES_US
        while True:
            try:
                return process.open_window(qos=qos)
            except KernelFailure as failure:
                held = failure.reason in (KernelReason.NO_CREDIT, *BUSY) or failure.hcall is HcallCode.H_RESOURCE
                if not held or self.system.now_us >= give_up_us:
                    raise
            self.system.pass_time(50_000)

    def _running(self, worker: Worker) -> Lpar:
        if worker.process is None or not _host(worker.process).alive or not worker.process.is_alive:
            self._gone(worker)
            worker.process = self.system.client(worker.lpar)
        return worker.process

    def _gone(self, worker: Worker) -> None:
        """The program does not run (any more): its windows are the kernel's affair."""
        if worker.process is not None:
            worker.process.close()
        worker.process, worker.windows = None, []


def _host(process: Lpar) -> Host:
    driver = process.driver
    assert isinstance(driver, ClientHost)
    return driver.host


def _depart() -> Procedure[bool]:
    answered: bool = yield Depart((yield from now()) + 1_000_000)
    return answered
