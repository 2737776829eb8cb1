"""Two threads that feed the model: one reads the hypervisor, one asks the partitions' kernels.

So the screen goes on while a stopped process lets them wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from deploy.cluster import ClusterError
from hmc.connection import Console, ConsoleUnreachable
from hmc.observer import Observer
from lpar.client import ClientError, Lpar
from protocol.keys import KeysError
from protocol.message import LOCAL_NETWORK
from vasbus.survey import SYSFS_ROOT
from vasbus.target import client_keys, console, console_keys, endpoint_on
from vasbus.top.model import KernelView, Model

T = TypeVar("T")
ANSWER_WAIT_S = 2.0
STREAM_WAIT_S = 0.1
BATCH_LIMIT = 5_000
"""Messages read in one go, so that snapshots are asked for even while a storm goes on."""
JOIN_S = 2 * ANSWER_WAIT_S
WINDOWS_PATH = "/sys/kernel/debug/vasbus/windows"


def monotonic_us() -> int:
    """The observer's clock."""
    return time.monotonic_ns() // 1000


class Feed:
    """Keeps a model up to date while the block lasts. Raises ConsoleUnreachable where nobody is there at the start."""

    def __init__(self, folder: Path, hmc: str, interval_s: float, network: str = LOCAL_NETWORK) -> None:
        self.model = Model(monotonic_us())
        self.interval_s = interval_s
        self.network = network
        self._connect: Callable[[], Console] = partial(console, folder, hmc, network)
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._console: Console | None = None
        self._observer: Observer | None = None
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._hypervisor, self._kernels)]

    def __enter__(self) -> Self:
        try:
            self._console = self._connect()
            status = self._console.system()
            self._observer = Observer(endpoint_on(self.network, "telemetry", status.telemetry), console_keys())
            # A second look, now that the stream is listened to, so that nothing falls in between.
            self._snapshot()
        except BaseException:
            self._close()
            raise
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(JOIN_S)
        if not any(thread.is_alive() for thread in self._threads):
            self._close()

    def look(self, at: Callable[[Model, int], T]) -> T:
        """Read the model while nobody changes it; the second argument is the time."""
        with self._guard:
            return at(self.model, monotonic_us())

    def _hypervisor(self) -> None:
        assert self._observer is not None
        while not self._stopping.is_set():
            self._drain(self._observer)
            if self.look(Model.snapshot_due):
                self._snapshot()

    def _drain(self, observer: Observer) -> None:
        for count, envelope in enumerate(observer.envelopes(STREAM_WAIT_S), start=1):
            with self._guard:
                self.model.arrive(envelope.number, envelope.body, monotonic_us())
            if count >= BATCH_LIMIT or self._stopping.is_set():
                return

    def _snapshot(self) -> None:
        """Ask for the state of the system; an unreachable hypervisor is shown, and tried again."""
        self.look(lambda model, _now_us: model.ask())
        try:
            if self._console is None:
                self._console = self._connect()
            status = self._console.system(ANSWER_WAIT_S)
        except (ConsoleUnreachable, ClusterError) as failure:
            reason = str(failure)
            self.look(lambda model, now_us: model.unreachable(reason, now_us))
            if self._console is not None:
                self._console.close()
                self._console = None
            if not self._threads[0].is_alive():
                raise
        else:
            self.look(lambda model, now_us: model.snapshot(status, now_us))

    def _kernels(self) -> None:
        kernels: dict[str, Kernel] = {}
        try:
            while not self._stopping.is_set():
                lpars = self.look(lambda model, _now_us: list(model.picture.lpars.values()))
                for gone in kernels.keys() - {lpar.name for lpar in lpars}:
                    kernels.pop(gone).close()
                for lpar in lpars:
                    kernel = kernels.setdefault(lpar.name, Kernel(lpar.name, self.network))
                    endpoint = lpar.endpoints.get(self.network) if lpar.state != "not_activated" else None
                    view = kernel.read(endpoint)
                    with self._guard:
                        self.model.kernels[lpar.name] = view
                    if self._stopping.is_set():
                        break
                self._stopping.wait(min(self.interval_s, 1.0))
        finally:
            for kernel in kernels.values():
                kernel.close()

    def _close(self) -> None:
        if self._observer is not None:
            self._observer.close()
        if self._console is not None:
            self._console.close()


class Kernel:
    """One partition's kernel, asked again and again on one session."""

    def __init__(self, name: str, network: str = LOCAL_NETWORK) -> None:
        self.name = name
        self.network = network
        self._lpar: Lpar | None = None
        self._endpoint: str | None = None

    def read(self, endpoint: str | None) -> dict[str, KernelView] | None:
        """Its counters by credit type; None where it does not answer or we have no key for it."""
        if endpoint != self._endpoint:
            self.close()
            self._endpoint = endpoint
        if endpoint is None:
            return None
        try:
            if self._lpar is None:
                self._lpar = Lpar(endpoint, self.network, timeout=ANSWER_WAIT_S, keys=client_keys(self.name))
            return _views(self._lpar)
        except (OSError, ClientError, ValueError, KeysError):
            self.close()
            return None

    def close(self) -> None:
        """Leave the partition."""
        if self._lpar is not None:
            self._lpar.close()
            self._lpar = None


def _views(lpar: Lpar) -> dict[str, KernelView]:
    """Raises OSError, ClientError, ValueError where a file holds something else."""
    closed = closed_windows(lpar.read(WINDOWS_PATH))
    return {
        kind: KernelView(
            total=int(lpar.read(f"{SYSFS_ROOT}/{kind}_capabilities/nr_total_credits")),
            used=int(lpar.read(f"{SYSFS_ROOT}/{kind}_capabilities/nr_used_credits")),
            closed=closed.get(kind, 0),
        )
        for kind in ("default", "qos")
    }


def closed_windows(listing: str) -> dict[str, int]:
    """How many windows of each type wait for a credit, from the kernel's window list."""
    header, *lines = listing.splitlines()
    columns = header.split()
    kind, status = columns.index("type"), columns.index("status")
    closed: dict[str, int] = {}
    for line in lines:
        words = line.split()
        if not line.startswith("#") and words[status] != "active":
            closed[words[kind]] = closed.get(words[kind], 0) + 1
    return closed
