"""Client processes of their own, for tests that kill, stop or ignore them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.processes.cluster import Cluster

CLIENT = """
import sys
from lpar.client import Lpar
with Lpar(sys.argv[1]) as lpar:
    windows = [lpar.open_window() for _ in range(5)]
    print("open", flush=True)
    sys.stdin.read()
"""


@contextmanager
def client_process(
    cluster: Cluster, name: str, program: str = CLIENT, *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    """A client that holds five windows and then waits, or does what the program says."""
    endpoint = cluster.folder.addresses().device[name]
    process = subprocess.Popen(
        [sys.executable, "-c", program, endpoint, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()
