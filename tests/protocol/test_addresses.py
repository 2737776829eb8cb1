"""A process whose endpoint somebody else has: it ends with the code for that and names the endpoint, and no other."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from protocol.codes import ExitCode
from protocol.run import run_node
from tests.protocol.test_node_metrics import MeasuredCountingCore

LINKS = ("hcall", "fabric", "hmc")


@contextmanager
def listening(kind: str, folder: Path) -> Iterator[str]:
    """Somebody else's endpoint."""
    family = socket.AF_UNIX if kind == "ipc" else socket.AF_INET
    with closing(socket.socket(family)) as other:
        other.bind(str(folder / "taken") if kind == "ipc" else ("127.0.0.1", 0))
        other.listen()
        yield f"ipc://{folder}/taken" if kind == "ipc" else f"tcp://127.0.0.1:{other.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["ipc", "tcp"])
@pytest.mark.parametrize("link", [*LINKS, "telemetry"])
def test_the_endpoint_that_somebody_else_has_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, link: str
) -> None:
    monkeypatch.setattr("protocol.run.limit_memory", lambda _megabytes: None)
    monkeypatch.setattr("protocol.run.limit_descriptors", lambda _megabytes, _bytes: None)
    places = {each: f"ipc://{folder}/{each}" for each in (*LINKS, "telemetry")}
    with listening(kind, folder) as taken:
        places[link] = taken
        publish = places.pop("telemetry")
        ending = run_node(MeasuredCountingCore(), places, 64, None, publish=publish)
    assert (ending.code, ending.reason) == (ExitCode.ADDRESS_IN_USE, f"{taken}: another process listens there")


def test_a_file_that_is_no_socket_is_told_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocol.run.limit_memory", lambda _megabytes: None)
    (folder / "hcall").touch()
    ending = run_node(MeasuredCountingCore(), {"hcall": f"ipc://{folder}/hcall"}, 64, None)
    assert ending.code is ExitCode.ADDRESS_IN_USE
    assert ending.reason == f"ipc://{folder}/hcall: a file that is no socket is there"
