"""What the package promises about itself."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import lpar.client
from lpar.client import Lpar, NxGzip, PasteArea, Window

FOLDER = Path(lpar.client.__file__).parent
SHELL = {
    "__init__.py", "driver.py", "handles.py", "interrupts.py", "libnxz.py", "nx_gzip.py", "process.py", "software.py",
    "software_stream.py", "source.py", "streams.py",
}  # fmt: skip
"""What may know of threads, sockets, clocks and codecs; everything else is pure."""
IMPURE = {
    "asyncio", "io", "isal", "logging", "lzo", "multiprocessing", "os", "pathlib", "random", "select", "selectors",
    "socket", "sqlite3", "subprocess", "threading", "time", "zlib", "zmq",
}  # fmt: skip
LINES_LIMIT, FUNCTION_LIMIT = 300, 45


def modules() -> list[Path]:
    return sorted(FOLDER.glob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_all_is_sorted_and_exact() -> None:
    names = lpar.client.__all__
    assert names == sorted(names)
    defined = {
        name
        for name, value in vars(lpar.client).items()
        if inspect.isclass(value) and value.__module__.startswith("lpar.client.")
    }
    assert set(names) == defined


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_the_core_knows_no_sockets_clocks_threads_or_codecs(path: Path) -> None:
    if path.name not in SHELL:
        assert not {name.partition(".")[0] for name in imports(path)} & IMPURE
        assert not imports(path) & {f"lpar.client.{name.removesuffix('.py')}" for name in SHELL}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_the_client_imports_nothing_of_other_roles(path: Path) -> None:
    ours = {
        name for name in imports(path) if name.partition(".")[0] in ("hypervisor", "lpar", "nxunit", "hmc", "vasbus")
    }
    assert all(name.startswith("lpar.client") for name in ours)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.name)
def test_a_file_is_a_noun_and_a_function_fits_a_screen(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LINES_LIMIT
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LIMIT, node.name


@pytest.mark.parametrize("public", [Lpar, NxGzip, PasteArea, Window, lpar.client.DeviceFile, lpar.client.Pending])
def test_every_public_method_says_what_it_does(public: type) -> None:
    for name, member in vars(public).items():
        if not name.startswith("_") and callable(member):
            assert inspect.getdoc(member), f"{public.__name__}.{name}"


def test_the_signatures_scripts_rely_on() -> None:
    assert list(inspect.signature(Lpar).parameters)[:4] == ["endpoint", "network", "name", "timeout"]
    assert str(inspect.signature(lpar.client.DeviceFile.tx_win_open)) == (
        "(self, version: 'int' = 1, vas_id: 'int' = -1, flags: 'int' = 0) -> 'int'"
    )
    assert list(inspect.signature(NxGzip).parameters)[:4] == ["lpar", "mode", "on_suspend", "fallback"]
