"""A client process under whose feet others die: `python -m tests.processes.busy_client ENDPOINT SEED`.

It opens and closes windows and compresses on them until a line comes on its standard input. Then it says on how many of
its windows, all those that it has, a request completes on the accelerator: `works N`, or `dead 0` where its partition
was restarted and nothing is left to show. When it began each of its sessions follows, in seconds on the clock that all
processes share. When its standard input ends it closes everything and exits with 0. Any failure that no death explains
ends it with a traceback.
"""

from __future__ import annotations

import sys
import time
import zlib
from random import Random
from select import select

from lpar.client import ClientError, Lpar, Request, Window
from lpar.client.errors import KernelFailure
from protocol.codes import CompletionCode, FunctionCode, KernelReason
from tests.system.expected_errors import is_expected

TEXT = b"what a busy client compresses " * 400
REQUEST = Request(FunctionCode.COMPRESS_DHT, TEXT, len(TEXT))
WINDOWS_MOST = 6
RUN_S = 3.0
SHOW_S = 20.0
USED = "/sys/devices/virtual/misc/vas/vas0/gzip/default_capabilities/nr_used_credits"


class BusyClient:
    """One session after the other: a new one where the partition was restarted."""

    def __init__(self, endpoint: str, seed: int) -> None:
        self.endpoint = endpoint
        self.random = Random(seed)
        self.begun_s: list[float] = []
        self._begin()

    def _begin(self) -> None:
        now_s = time.monotonic()
        self.lpar = Lpar(self.endpoint)
        self.windows: list[Window] = []
        self.begun_s.append(now_s)

    def act(self) -> None:
        """One thing. Raises what nothing explains."""
        try:
            if not self.lpar.is_alive:
                self._begin()
            chance = self.random.random()
            if chance < 0.4 and len(self.windows) < WINDOWS_MOST:
                self.windows.append(self.lpar.open_window())
            elif chance < 0.6 and self.windows:
                self.windows.pop(self.random.randrange(len(self.windows))).close()
            elif self.windows:
                compress(self.random.choice(self.windows), RUN_S)
        except (OSError, ClientError) as error:
            if not is_expected(error):
                raise

    def show(self) -> str:
        """Whether the partition is there that the windows are of, and on how many a request completes: all of them."""
        try:
            self.lpar.read(USED)
        except KernelFailure as failure:
            if failure.reason is not KernelReason.DEAD:
                raise
            return self._said("dead", 0)
        for window in self.windows:
            compress(window, SHOW_S)
        return self._said("works", len(self.windows))

    def _said(self, word: str, windows: int) -> str:
        return " ".join([word, str(windows), *(str(moment_s) for moment_s in self.begun_s)])


def compress(window: Window, timeout: float) -> None:
    """One request on the accelerator, never in software. Raises what `run` raises."""
    csb = window.run(REQUEST, timeout)
    assert csb.code is CompletionCode.OK
    assert zlib.decompress(csb.target, wbits=-15) == TEXT


def main() -> None:
    """See the module."""
    client = BusyClient(sys.argv[1], int(sys.argv[2]))
    print("started", flush=True)
    while not select([sys.stdin], [], [], 0)[0]:
        client.act()
    if sys.stdin.readline():
        print(client.show(), flush=True)
        sys.stdin.read()
    for window in client.windows:
        window.close()
    client.lpar.close()


if __name__ == "__main__":
    main()
