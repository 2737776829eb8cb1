"""A process on a partition, for asyncio."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from lpar.client.aio.driver import Driver
from lpar.client.aio.handles import DeviceFile, Window
from lpar.client.aio.runner import Runner
from lpar.client.core import ClientCore
from lpar.client.handles import microseconds, thread_id
from lpar.client.process import NAME_BYTES
from lpar.client.runner import Trace
from lpar.client.steps import Connect, Procedure, now
from lpar.client.system_calls import Descriptor, close_descriptor, open_device, read_file, write_file
from lpar.client.tally import PasteTally
from lpar.client.window import WindowState, close_window, open_window
from protocol.key_files import Keys, keys_of
from protocol.keys import KeyRole
from protocol.network import network_of


class Lpar:
    """A process on the partition whose kernel listens at `endpoint`. Tasks of one event loop may share one.

    It is opened by `async with Lpar(endpoint) as lpar:` or `lpar = await Lpar.open(endpoint)`, and belongs to the
    loop in which that happens: elsewhere its calls raise RuntimeError, and in a forked child ForkedProcess.

    `network` picks which of their endpoints the NX units are reached at (where not given the environment's
    VASBUS_NETWORK, else `local`); `name` is the process's name on the bus
    (random where not given); `timeout` bounds each call, in seconds. `on_message(direction, connection, envelope)` is
    told of every message: `sent` or `received`, `device` or `paste:` and an endpoint. It must be quick and must not
    call back. `keys` is the key file for this partition that `vasbus keys export` wrote, where it wants one.

    Its life is its connection: the kernel closes its windows when the process has gone. Opening raises TimeoutError
    where no kernel answers, MessageRefused where it admits no session, PermissionError where it does not take the key,
    KeysError where the key file is wrong, ValueError where the network is no name. A call whose task is cancelled
    leaves nothing open that it was about to open; a close goes on by itself.
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
        self._prepare(Driver(core, on_message, keys_of(keys, KeyRole.CLIENT)), timeout)

    @classmethod
    async def open(
        cls,
        endpoint: str,
        network: str | None = None,
        name: str | None = None,
        timeout: float = 30.0,
        on_message: Trace | None = None,
        keys: Keys | None = None,
    ) -> Self:
        """An open process; `close` ends it. Raises TimeoutError, MessageRefused, PermissionError, KeysError."""
        lpar = cls(endpoint, network, name, timeout, on_message, keys)
        await lpar._begin()
        return lpar

    @classmethod
    async def on(cls, runner: Runner, timeout: float = 30.0) -> Self:
        """An open process whose procedures something else than an event loop runs, such as a simulator."""
        lpar = cls.__new__(cls)
        lpar._prepare(runner, timeout)
        await lpar._begin()
        return lpar

    def _prepare(self, runner: Runner, timeout: float) -> None:
        self.driver = runner
        self.timeout = timeout
        self._timeout_us = microseconds(timeout)

    async def _begin(self) -> None:
        try:
            await self.driver.start()
            await self.driver.run(_connect(renew=False, timeout_us=self._timeout_us))
        except BaseException:
            await self.driver.close()
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

    async def read(self, path: str) -> str:
        """The text of a file of the partition, such as sysfs shows it. Raises FileMissing, FileForbidden."""
        return await self.driver.run(read_file(path, self._timeout_us))

    async def write(self, path: str, text: str) -> None:
        """Write a file of the partition. Raises FileMissing, FileForbidden, KernelFailure (EINVAL: a bad number).

        After a cancellation it may have been written.
        """
        await self.driver.run(write_file(path, text, self._timeout_us))

    async def open_device(self) -> DeviceFile:
        """open("/dev/crypto/nx-gzip", O_RDWR). Raises KernelFailure (EMFILE)."""

        def undo(opened: Descriptor) -> Procedure[None]:
            return close_descriptor(opened, self._timeout_us)

        return DeviceFile(self.driver, await self.driver.run(open_device(self._timeout_us), undo), self.timeout)

    async def open_window(self, qos: bool = False, vas_id: int = -1) -> Window:
        """Open the device and a window on it. Raises what `DeviceFile.tx_win_open` raises; nothing stays open then."""

        def undo(opened: WindowState) -> Procedure[None]:
            return close_window(opened, self._timeout_us)

        procedure = open_window(
            qos=qos, vas_id=vas_id, thread_id=thread_id(), timeout_us=self._timeout_us, tally=PasteTally()
        )
        return Window(self.driver, await self.driver.run(procedure, undo), self.timeout)

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

    async def reconnect(self) -> None:
        """After ENODEV (the session is over) or SegmentationFault: start a new session, as a new process.

        Descriptors of the old one stay dead. On a living session it does nothing. Raises TimeoutError, MessageRefused.
        """
        await self.driver.run(_connect(renew=True, timeout_us=self._timeout_us))

    async def close(self) -> None:
        """Leave the partition: its kernel closes what this process has open. Calls under way get LparClosed."""
        await self.driver.close()

    async def __aenter__(self) -> Self:
        if not self.epoch:
            await self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _connect(*, renew: bool, timeout_us: int) -> Procedure[int]:
    deadline_us = (yield from now()) + timeout_us
    epoch: int = yield Connect(renew, deadline_us)
    return epoch
