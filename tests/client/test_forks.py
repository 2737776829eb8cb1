"""A forked child and what it inherits of its parent's library: nothing that can be used, and nothing that hangs."""

from __future__ import annotations

import os
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lpar.client import ForkedProcess, Lpar, NxGzip
from lpar.client.libnxz import Libnxz
from tests.client.servers import Servers, serving
from tests.client.test_compress import TEXT

CHILD_S = 10


@pytest.fixture
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="vb") as folder, serving(Path(folder)) as running:
        yield running


def refused_in_a_child(*calls: Callable[[], object]) -> int:
    """How many calls a child is refused with ForkedProcess; it is killed where one of them hangs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(CHILD_S)
        refused = 0
        for call in calls:
            try:
                call()
            except ForkedProcess:
                refused += 1
        os._exit(refused)
    _pid, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("on_suspend", ["software", "reopen"])
@pytest.mark.parametrize("busy", [False, True])
def test_every_look_at_the_parents_state_is_refused_in_a_child(servers: Servers, on_suspend: str, busy: bool) -> None:
    """`busy`: at the moment of the fork a thread of the parent has the guard; nobody gives it back in the child."""
    with Lpar(servers.endpoint, timeout=10.0) as lpar, NxGzip(lpar, "nx", on_suspend) as nx:
        nx.open()
        calls: list[Callable[[], object]] = [
            nx.statistics,
            nx.metrics,
            nx.open,
            nx.close,
            lambda: nx.address,
            lambda: nx.compress(TEXT),
            lambda: lpar.is_alive,
            lambda: lpar.epoch,
            lpar.open_window,
            lambda: Libnxz(lpar).compress(TEXT),
        ]
        if busy:
            with lpar.driver._guard:  # type: ignore[attr-defined]
                assert refused_in_a_child(*calls) == len(calls)
        else:
            assert refused_in_a_child(*calls) == len(calls)
        assert nx.decompress(nx.compress(TEXT)) == TEXT
        assert nx.statistics().compress.nx_bytes == len(TEXT)


def test_a_child_has_a_window_of_its_own_on_an_lpar_of_its_own(servers: Servers) -> None:
    def use() -> None:
        with Lpar(servers.endpoint, timeout=10.0) as own, NxGzip(own, "nx", "reopen") as nx:
            if nx.decompress(nx.compress(TEXT)) == TEXT:
                raise ForkedProcess("counted: the child did all of it")

    with Lpar(servers.endpoint, timeout=10.0) as lpar, NxGzip(lpar, "nx", "reopen") as nx:
        nx.open()
        assert refused_in_a_child(use) == 1
        assert nx.decompress(nx.compress(TEXT)) == TEXT
