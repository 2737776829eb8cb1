"""What may import what: cores do no I/O, roles know only the protocol, and no packages import each other in a ring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROLES = ("hypervisor", "lpar", "nxunit", "hmc")
CORE_PACKAGES = ("protocol", *ROLES)
OURS = (*CORE_PACKAGES, "vasbus", "deploy", "chaos", "bench", "docs", "examples")

SHELLS = {
    "protocol/node.py": "the loop of every server: sockets, clock, signals",
    "protocol/socket.py": "the only owner of ZeroMQ sockets",
    "protocol/curve.py": "CURVE options and events of ZeroMQ sockets",
    "protocol/zap.py": "what libzmq asks about a connection's key",
    "protocol/gate.py": "who is let in by the keys of this moment",
    "protocol/key_files.py": "keys on disk",
    "protocol/key_changes.py": "changes of keys on disk",
    "protocol/network.py": "the network of the environment",
    "protocol/stale_socket.py": "socket files of dead listeners",
    "protocol/publisher.py": "the telemetry socket",
    "protocol/node_log.py": "a process's log lines",
    "protocol/memory.py": "the ceiling of a process's memory",
    "protocol/socket_folder.py": "the modes of folders",
    "protocol/logs.py": "where log lines go",
    "protocol/alarm.py": "what ends the loop's wait: signals and other threads",
    "protocol/run.py": "a core as a process",
    "protocol/metrics_server.py": "metrics over HTTP",
    "hypervisor/serve.py": "the hypervisor's process",
    "hypervisor/store.py": "the ledger in SQLite",
    "hypervisor/store_failure.py": "what SQLite's errors mean",
    "hypervisor/ledger_check.py": "whether a file is a ledger",
    "hypervisor/ledger_files.py": "a ledger's lock and its copy",
    "hypervisor/inspection.py": "a ledger read for a check",
    "lpar/serve.py": "a partition's process",
    "lpar/client/driver.py": "the client's blocking driver",
    "lpar/client/interrupts.py": "signals of the client's process",
    "lpar/client/process.py": "the client's process id and name",
    "lpar/client/handles.py": "handles that several threads close",
    "lpar/client/source.py": "a file read in pieces",
    "lpar/client/streams.py": "gzip from file to file",
    "lpar/client/aio/driver.py": "the client's driver on an event loop",
    "lpar/client/aio/sockets.py": "the client's sockets on an event loop",
    "lpar/client/aio/process.py": "the client's process id and name, for asyncio",
    "nxunit/guard.py": "the lock of an NX unit's process",
    "nxunit/serve.py": "an NX unit's process",
    "hmc/connection.py": "the console's blocking driver",
    "hmc/observer.py": "the telemetry stream's reader",
}
"""Modules that touch the world, each with its reason. Whatever is not listed is a core and has to be pure."""

CODECS = {
    "nxunit/blocks.py": "single blocks on zlib",
    "nxunit/deflate.py": "compression on ISA-L",
    "nxunit/engine.py": "the gzip engine",
    "nxunit/inflate.py": "decompression on ISA-L",
    "lpar/client/software.py": "the software fallback",
    "lpar/client/software_stream.py": "the software fallback, piece by piece",
}
"""Modules that compute with a compression library; they are ports of a core, and do no I/O either."""

FACADES = {
    "lpar/client/libnxz.py": "libnxz's calls over a process on a partition",
    "lpar/client/nx_gzip.py": "the convenience over a process on a partition",
    "lpar/client/aio/handles.py": "handles to be awaited, over the driver on an event loop",
    "lpar/client/aio/nx_gzip.py": "the same convenience, to be awaited",
}
"""Modules without I/O of their own that hand a shell's work to users: the only others that may import a shell."""

WORLD = frozenset(
    (
        "zmq", "asyncio", "threading", "sqlite3", "time", "random", "socket", "os", "subprocess",
        "multiprocessing", "concurrent", "queue", "select", "selectors", "signal", "secrets", "uuid", "datetime",
        "pathlib", "io", "shutil", "tempfile", "mmap", "fcntl", "logging", "structlog", "sys", "http", "urllib", "ssl",
        "resource", "socketserver", "prometheus_client",
    )
)  # fmt: skip
"""Sockets, threads, clocks, chance, files and the process itself."""
COMPRESSION = frozenset(("isal", "zlib", "lzo", "gzip", "bz2", "lzma"))
WORLDLY_CALLS = frozenset(("open", "print", "input", "breakpoint"))


def modules_of(package: str) -> list[Path]:
    """The package's modules; it has to be there, or a test that walks nothing would pass."""
    folder = ROOT / package
    assert folder.is_dir(), f"{package} is not there"
    found = sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")
    assert found, f"{package} has no modules"
    return found


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def nodes_of(tree: ast.AST, *, types: bool) -> Iterator[ast.AST]:
    """Every node; without `types` not those that only the type checker sees."""
    for node in ast.iter_child_nodes(tree):
        if types or not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            yield from nodes_of(node, types=types)


def imports_of(path: Path, *, types: bool = True) -> Iterator[str]:
    """The dotted names of everything that a module imports, inside functions too."""
    here = path.relative_to(ROOT).with_suffix("").parts
    for node in nodes_of(tree_of(path), types=types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(here[: len(here) - node.level]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def tops_of(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports_of(path)}


CORE_MODULES = [path for package in CORE_PACKAGES for path in modules_of(package) if label(path) not in SHELLS]


def test_every_package_of_the_design_is_there() -> None:
    assert {package: len(modules_of(package)) for package in CORE_PACKAGES}.keys() == set(CORE_PACKAGES)
    assert modules_of("lpar/client")


@pytest.mark.parametrize("path", CORE_MODULES, ids=label)
def test_a_core_module_touches_nothing_of_the_world(path: Path) -> None:
    assert not tops_of(path) & WORLD
    calls = (node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
    names = {func.id for func in calls if isinstance(func, ast.Name)}
    assert not names & WORLDLY_CALLS


@pytest.mark.parametrize("path", CORE_MODULES, ids=label)
def test_compression_libraries_are_used_where_it_is_said(path: Path) -> None:
    if tops_of(path) & COMPRESSION:
        assert label(path) in CODECS


@pytest.mark.parametrize("listed", [*SHELLS, *CODECS])
def test_the_lists_of_exceptions_name_nothing_that_does_not_need_it(listed: str) -> None:
    path = ROOT / listed
    assert path.is_file()
    assert tops_of(path) & (WORLD if listed in SHELLS else COMPRESSION)


def test_protocol_imports_nothing_of_ours() -> None:
    for path in modules_of("protocol"):
        assert not tops_of(path) & {*OURS, "tests"} - {"protocol"}, label(path)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_imports_the_protocol_and_no_other_package_of_ours(role: str) -> None:
    for path in [*modules_of(role), *(ROOT / role).rglob("__init__.py")]:
        assert tops_of(path) & {*OURS, "tests"} <= {"protocol", role}, label(path)


def test_the_kernel_and_its_clients_know_each_other_only_by_messages() -> None:
    for path in modules_of("lpar"):
        is_client = path.is_relative_to(ROOT / "lpar" / "client")
        ours = {name for name in imports_of(path) if name.split(".")[0] == "lpar"}
        if is_client:
            assert all(name == "lpar" or name.startswith("lpar.client") for name in ours), label(path)
        else:
            assert not any(name.startswith("lpar.client") for name in ours), label(path)


def test_no_core_imports_a_shell() -> None:
    shells = {listed.removesuffix(".py").replace("/", ".") for listed in SHELLS}
    for path in CORE_MODULES:
        if label(path) not in FACADES:
            assert not set(imports_of(path)) & shells, label(path)


def module_graph(*, types: bool) -> dict[str, set[str]]:
    """Which of our modules import which; a package stands for its __init__. chaos and bench come later."""
    paths = [path for package in OURS if (ROOT / package).is_dir() for path in (ROOT / package).rglob("*.py")]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths}
    known = set(names.values())
    return {
        name: {found for found in imports_of(path, types=types) if found in known} - {name}
        for path, name in names.items()
    }


def test_modules_do_not_import_each_other_in_a_ring() -> None:
    """At run time; two modules of one package may name each other's types."""
    graph = module_graph(types=False)
    assert len(graph) > 50
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a ring of imports: {' <- '.join(error.args[1])}")
    assert set(order) == set(graph)


def test_packages_do_not_import_each_other_in_a_ring() -> None:
    packages: dict[str, set[str]] = {}
    for name, imported in module_graph(types=True).items():
        top = name.split(".")[0]
        packages.setdefault(top, set()).update({found.split(".")[0] for found in imported} - {top})
    try:
        order = list(TopologicalSorter(packages).static_order())
    except CycleError as error:
        pytest.fail(f"a ring of packages: {' <- '.join(error.args[1])}")
    assert order[0] == "protocol"
