"""The counting node, in a thread of this process and as a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from protocol.effects import Dial, Exit
from protocol.node import Node, Store, monotonic_us
from protocol.session import Terms
from protocol.session_messages import Hello
from protocol.wire import Envelope, encode
from tests.protocol.caller import DEADLINE_S
from tests.protocol.counting_node import QUIT, SHORT, CountingCore, FileStore

ROOT = Path(__file__).parents[2]


class Running:
    """A node in a thread of this process."""

    def __init__(
        self,
        folder: Path,
        store: Store | None = None,
        wish: Dial | None = None,
        clock: Callable[[], int] = monotonic_us,
        terms: Terms = SHORT,
        core: CountingCore | None = None,
    ) -> None:
        self.endpoint = f"ipc://{folder}/hcall"
        self.lines = folder / "store"
        self.core = core or CountingCore(terms=terms)
        self.core.effects.transmissions += [wish] if wish is not None else []
        self.node = Node(self.core, {"hcall": self.endpoint}, store or FileStore(self.lines), clock=clock)
        self.ending: Exit | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.ending = self.node.run()

    def join(self) -> Exit:
        """Wait for the end."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        assert self.ending is not None
        return self.ending

    def quit(self) -> None:
        """End it, if it has not ended by itself."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with context.socket(zmq.DEALER) as socket:
            socket.connect(self.endpoint)
            socket.send_multipart(encode(Envelope(Hello(role="lpar", name=QUIT, incarnation=bytes(16)))))
            self._thread.join(DEADLINE_S)
            socket.close(linger=0)
        context.term()


class Program:
    """The counting node as a process of its own."""

    def __init__(self, folder: Path, mode: str = "plain") -> None:
        self.endpoint = f"ipc://{folder}/hcall"
        self.lines = folder / "store"
        self.lines.touch()
        command = [sys.executable, "-m", "tests.protocol.counting_node", self.endpoint, str(self.lines), mode]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.output = self.process.stdout
        assert self.output.readline() == "ready\n"

    def stored(self) -> list[str]:
        return self.lines.read_text().splitlines()

    def until_stored(self, line: str) -> None:
        end_s = time.monotonic() + DEADLINE_S
        while line not in self.stored():
            assert time.monotonic() < end_s, f"never stored: {line}"
            time.sleep(0.01)

    def exit_code(self) -> int:
        return self.process.wait(DEADLINE_S)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.output.close()
