"""The asyncio package has the names, calls and parameters of the blocking one."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import lpar.client as blocking
import vasbus
from lpar.client import aio

FOLDER = Path(aio.__file__).parent
LINES_LIMIT, FUNCTION_LIMIT = 300, 45
OWN = ("DeviceFile", "Lpar", "NxGzip", "PasteArea", "Pending", "Window")
"""The classes whose calls are to be awaited; everything else is the same object in both packages."""
AT_ONCE = {"statistics", "metrics"}
"""Calls that wait for nothing in either package."""
BLOCKING_ONLY = {"member_reader"}
"""For lpar/client/streams.py, which reads and writes files, and so blocks."""
WAYS_IN = {"__enter__": "__aenter__", "__exit__": "__aexit__"}


def public(owner: type) -> dict[str, object]:
    names = {WAYS_IN.get(name, name): member for name, member in vars(owner).items()}
    return {name: member for name, member in names.items() if not name.startswith("_") or name in WAYS_IN.values()}


def parameters(member: object) -> list[tuple[str, object]]:
    """Names and defaults."""
    found = inspect.signature(member).parameters.values()  # type: ignore[arg-type]
    return [(parameter.name, parameter.default) for parameter in found]


def test_both_packages_export_the_same_names() -> None:
    assert aio.__all__ == blocking.__all__
    module = importlib.import_module("vasbus.aio")  # as `from vasbus.aio import Lpar` does, which the documents print
    assert module is vasbus.aio
    assert all(getattr(module, name) is getattr(aio, name) for name in aio.__all__)
    for name in blocking.__all__:
        same = getattr(aio, name) is getattr(blocking, name)
        assert same is (name not in OWN), name


def test_all_is_exact() -> None:
    defined = {
        name
        for name, value in vars(aio).items()
        if inspect.isclass(value) and value.__module__.startswith("lpar.client.")
    }
    assert set(aio.__all__) == defined


@pytest.mark.parametrize("name", OWN)
def test_a_class_has_the_calls_of_its_counterpart_to_be_awaited(name: str) -> None:
    theirs, ours = public(getattr(blocking, name)), public(getattr(aio, name))
    assert set(ours) - set(theirs) == ({"open"} if name == "Lpar" else set())
    assert set(theirs) - set(ours) == (BLOCKING_ONLY if name == "NxGzip" else set())
    assert parameters(getattr(aio, name)) == parameters(getattr(blocking, name))
    for call, member in ours.items():
        if isinstance(member, property):
            assert isinstance(theirs[call], property), call
        elif call in theirs and inspect.isfunction(member):
            assert inspect.iscoroutinefunction(member) is (call not in AT_ONCE), call
            assert parameters(member) == parameters(theirs[call]), call


def test_open_takes_what_the_class_takes() -> None:
    assert parameters(aio.Lpar.open) == parameters(aio.Lpar)


@pytest.mark.parametrize("name", OWN)
def test_every_public_call_says_what_it_does(name: str) -> None:
    for call, member in public(getattr(aio, name)).items():
        if not call.startswith("_"):
            assert inspect.getdoc(member), call


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_a_file_is_a_noun_and_a_function_fits_a_screen(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LINES_LIMIT
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LIMIT, node.name


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_no_input_or_output_goes_through_threads_or_zmq_asyncio(path: Path) -> None:
    text = path.read_text()
    assert "zmq.asyncio" not in text.replace("`zmq.asyncio`", "")
    for name in ("Thread(", "to_thread", "ThreadPoolExecutor"):
        assert name not in text
