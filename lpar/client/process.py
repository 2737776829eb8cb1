"""A process on a partition."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from lpar.client.core import ClientCore
from lpar.client.driver import Driver
from lpar.client.handles import DeviceFile, Window, microseconds, thread_id
from lpar.client.runner import Runner, Trace
from lpar.client.steps import Connect, Procedure, now
from lpar.client.system_calls import open_device, read_file, write_file
from lpar.client.tally import PasteTally
from lpar.client.window import open_window
from protocol.key_files import Keys, keys_of
from protocol.keys import KeyRole
from protocol.network import network_of

NAME_BYTES = 6


class Lpar:
    """A process on the partition whose kernel listens at `endpoint`. Threads may share one.

    `network` picks which of their endpoints the NX units are reached at (where not given the environment's
    VASBUS_NETWORK, else `local`); `name` is the process's name on the bus
    (random where not given); `timeout` bounds each call, in seconds. `on_message(direction, connection, envelope)` is
    told of every message: `sent` or `received`, `device` or `paste:` and an endpoint. It must be quick and must not
    call back. `keys` is the key file for this partition that `vasbus keys export` wrote, where it wants one.

    Its life is its connection: the kernel closes its windows when the process has gone. Raises TimeoutError where
    no kernel answers, MessageRefused where it admits no session, PermissionError where it does not take the key,
    KeysError where the key file is wrong, ValueError where the network is no name.
    """

    def __init__(
        self,
        endpoint: str,
        network: str | None = None,
        name: str | None = None,
        timeout: float = 30.0,
        on_message: Trace | None = None,
        keys: Keys | None = None,
    ) -> None:
        pid = os.getpid()
        own_name = name or f"client-{pid}-{os.urandom(NAME_BYTES).hex()}"
        core = ClientCore(endpoint, own_name, network_of(network), pid, os.urandom)
        self._begin(Driver(core, on_message, keys_of(keys, KeyRole.CLIENT)), timeout)

    @classmethod
    def on(cls, runner: Runner, timeout: float = 30.0) -> Self:
        """A process whose procedures something else than threads runs, such as a simulator."""
        lpar = cls.__new__(cls)
        lpar._begin(runner, timeout)
        return lpar

    def _begin(self, runner: Runner, timeout: float) -> None:
        self.driver = runner
        self.timeout = timeout
        self._timeout_us = microseconds(timeout)
        try:
            runner.run(_connect(renew=False, timeout_us=self._timeout_us))
        except BaseException:
            runner.close()
            raise

    @property
    def endpoint(self) -> str:
        """Where the partition's kernel listens."""
        return self.driver.core.endpoint

    @property
    def name(self) -> str:
        """The process's name on the bus."""
        return self.driver.core.dialer.identity.name

    @property
    def pid(self) -> int:
        """The process's id as the kernel knows it."""
        return self.driver.core.dialer.identity.pid

    def read(self, path: str) -> str:
        """The text of a file of the partition, such as sysfs shows it. Raises FileMissing, FileForbidden."""
        return self.driver.run(read_file(path, self._timeout_us))

    def write(self, path: str, text: str) -> None:
        """Write a file of the partition. Raises FileMissing, FileForbidden, KernelFailure (EINVAL: a bad number)."""
        self.driver.run(write_file(path, text, self._timeout_us))

    def open_device(self) -> DeviceFile:
        """open("/dev/crypto/nx-gzip", O_RDWR). Raises KernelFailure (EMFILE)."""
        return DeviceFile(self.driver, self.driver.run(open_device(self._timeout_us)), self.timeout)

    def open_window(self, qos: bool = False, vas_id: int = -1) -> Window:
        """Open the device and a window on it. Raises what `DeviceFile.tx_win_open` raises; nothing stays open then."""
        state = self.driver.run(
            open_window(qos=qos, vas_id=vas_id, thread_id=thread_id(), timeout_us=self._timeout_us, tally=PasteTally())
        )
        return Window(self.driver, state, self.timeout)

    @property
    def epoch(self) -> int:
        """The number of this process's session; it rises when that was over and `reconnect` called."""
        return self.driver.inspect(lambda: self.driver.core.epoch)

    @property
    def is_alive(self) -> bool:
        """Whether the session lives as far as is known: false once it was told that it is over, or a signal came."""
        return self.driver.inspect(lambda: self.driver.core.kernel.is_alive)

    @property
    def on_message(self) -> Trace | None:
        """What is told of every message."""
        return self.driver.on_message

    @on_message.setter
    def on_message(self, hook: Trace | None) -> None:
        self.driver.on_message = hook

    def reconnect(self) -> None:
        """After ENODEV (the session is over) or SegmentationFault: start a new session, as a new process.

        Descriptors of the old one stay dead.

        On a living session it does nothing. Raises TimeoutError, MessageRefused.
        """
        self.driver.run(_connect(renew=True, timeout_us=self._timeout_us))

    def close(self) -> None:
        """Leave the partition: its kernel closes what this process has open. Calls under way get LparClosed."""
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(*, renew: bool, timeout_us: int) -> Procedure[int]:
    deadline_us = (yield from now()) + timeout_us
    epoch: int = yield Connect(renew, deadline_us)
    return epoch
