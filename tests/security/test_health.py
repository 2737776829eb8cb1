"""`vasbus health`: one round trip to a process that works, or one line of why not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest
import zmq
from typer.testing import CliRunner

from lpar.core import LparCore
from protocol.codes import ExitCode
from protocol.dialer import Identity
from protocol.key_changes import rotate_key
from protocol.key_files import export_keys, init_keys, load_keys
from protocol.keys import Principal, principals_of
from protocol.node import Node
from protocol.paste_messages import Paste
from protocol.refusals import RefusalCode
from protocol.session_messages import Hello
from protocol.system import parse_system
from protocol.wire import WIRE_VERSION, Envelope, encode
from tests.security.system import DEADLINE_S, SYSTEM, Halting, Secured, eventually, local
from vasbus.command import app
from vasbus.health import caller as calling
from vasbus.health.checks import ROLES, health
from vasbus.health.failure import Unhealthy
from vasbus.health.keys import BadKeys, FoundKeys, read_keys
from vasbus.health.main import main

WAIT_S = 20.0
SHORT_S = 0.3
ROOT = Path(__file__).parents[2]
CONTAINERS = [
    ("hypervisor", "hypervisor,observer", "hmc", "the hypervisor of secured answers"),
    ("lpar", "lpar:lp1,client:lp1", "lp1", "the kernel is up with 40 default credits"),
    ("nxunit", "nx:nx0", "nx0", "the NX unit answers pastes"),
]
"""Role, the keys that its container has, where it listens, and what it says when it is healthy."""

Said = pytest.CaptureFixture[str]


def exported(system: Secured, owners: str, folder: Path) -> Path:
    """The key file of a container."""
    path = folder / "own.keys"
    export_keys(system.folder, [Principal.parse(owner) for owner in owners.split(",")], path, replace=True)
    return path


def endpoint_of(system: Secured, name: str) -> str:
    return system.every_endpoint[name][1]


def check(role: str, endpoint: str, *options: str) -> int:
    place = [f"--hmc={endpoint}"] if role == "hypervisor" else [endpoint]
    return main([role, *place, *options])


@contextmanager
def answering(answer: Callable[[list[bytes]], list[list[bytes]]]) -> Iterator[str]:
    """An endpoint without keys whose listener says what a test wants."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    listener = context.socket(zmq.ROUTER)
    listener.setsockopt(zmq.LINGER, 0)
    port = listener.bind_to_random_port("tcp://127.0.0.1")
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            if listener.poll(20):
                peer, *frames = listener.recv_multipart()
                for reply in answer(frames):
                    listener.send_multipart([peer, *reply])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{port}"
    finally:
        over.set()
        thread.join()
        context.destroy(linger=0)


# Healthy.


@pytest.mark.parametrize(("role", "owners", "name", "words"), CONTAINERS)
def test_a_process_that_works_is_healthy_by_the_keys_of_its_own_container(
    system: Secured, tmp_path: Path, capsys: Said, role: str, owners: str, name: str, words: str
) -> None:
    keys = exported(system, owners, tmp_path)
    assert check(role, endpoint_of(system, name), f"--keys={keys}", f"--timeout={WAIT_S}") == ExitCode.OK
    # The processes of this system log into the same output.
    assert f"healthy: {words}\n" in capsys.readouterr().out


def test_a_check_leaves_no_session_behind(system: Secured, tmp_path: Path) -> None:
    keys = read_keys(exported(system, "client:lp1,observer", tmp_path))
    for role, name in (("lpar", "lp1"), ("hypervisor", "hmc")):
        credentials = keys.credentials(ROLES[role].keys, ROLES[role].listeners)
        health(role, endpoint_of(system, name), credentials, WAIT_S)
    sessions = (system.lpars["lp1"].listener.sessions, system.hypervisor.hmc.sessions)
    assert not [name for table in sessions for name in table if name.startswith("health-")]


def test_a_listener_whose_key_is_being_changed_is_found_by_the_key_that_it_has(system: Secured, tmp_path: Path) -> None:
    """The file has both keys, the new one first; the partition goes on with that of its start."""
    keys = read_keys(exported(system, "client:lp1", tmp_path))
    other = read_keys(exported(system, "client:lp2", tmp_path)).own["client:lp2"][0]
    keys.public["lpar:lp1"].insert(0, other)
    credentials = keys.credentials(ROLES["lpar"].keys, ROLES["lpar"].listeners)
    assert credentials.listener[0] == other
    assert "is up" in health("lpar", endpoint_of(system, "lp1"), credentials, WAIT_S)


def test_a_unit_expects_its_own_key_before_the_one_that_its_folder_has_by_now(tmp_path: Path) -> None:
    everybody = principals_of(parse_system(SYSTEM, "secured.toml"))
    init_keys(tmp_path, everybody)
    export_keys(tmp_path, [Principal.parse("nx:nx0")], tmp_path / "own.keys")
    at_start = load_keys(tmp_path / "own.keys").own[Principal.parse("nx:nx0")].public
    rotate_key(tmp_path, Principal.parse("nx:nx0"))
    found = read_keys(tmp_path / "own.keys")
    newer = [key for key in load_keys(tmp_path).public[Principal.parse("nx:nx0")] if key != at_start]
    found.public["nx:nx0"] = [*newer, at_start]
    assert found.credentials(("nx",), ("nx:{}",)).listener == (at_start, *newer)


def test_a_replica_shows_the_enrolment_key() -> None:
    pair = ("p" * 40, "s" * 40)
    found = FoundKeys({"client:lpar": pair, "enrol": ("e" * 40, "s" * 40)}, {"enrol": ["e" * 40]})
    credentials = found.credentials(ROLES["lpar"].keys, ROLES["lpar"].listeners)
    assert (credentials.owner, credentials.listener) == ("client:lpar", ("e" * 40,))


@pytest.mark.parametrize(("role", "owners", "name", "words"), CONTAINERS)
def test_a_check_imports_no_model_of_the_bus_and_no_other_command(
    system: Secured, tmp_path: Path, role: str, owners: str, name: str, words: str
) -> None:
    """They cost several times what a check needs, every few seconds in each container."""
    endpoint = endpoint_of(system, name)
    place = f"--hmc={endpoint}" if role == "hypervisor" else endpoint
    program = (
        "import sys; from vasbus.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'pydantic', 'typer', 'rich', 'asyncio', 'protocol.wire'} & set(sys.modules)\n"
        "sys.exit(code or ', '.join(heavy) or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VASBUS_KEYS": str(exported(system, owners, tmp_path))}
    done = subprocess.run(
        [sys.executable, "-c", program, "health", role, place, f"--timeout={WAIT_S}"], env=environment, cwd=tmp_path,
        capture_output=True, text=True, timeout=2 * WAIT_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, f"healthy: {words}\n", "")


def test_the_command_is_listed_and_takes_the_keys_of_all_commands(system: Secured, tmp_path: Path) -> None:
    runner = CliRunner(env={"VASBUS_KEYS": ""})
    assert "health" in runner.invoke(app, ["--help"]).output
    keys = exported(system, "observer", tmp_path)
    words = ["--keys", str(keys), "health", "hypervisor", "--hmc", system.links["hmc"], "--timeout", str(WAIT_S)]
    done = runner.invoke(app, words)
    assert (done.exit_code, done.output) == (0, "healthy: the hypervisor of secured answers\n")
    assert "Usage: vasbus health hypervisor" in runner.invoke(app, ["health", "--help"]).output


def test_what_is_said_is_what_the_bus_understands() -> None:
    """Words and refusals are written once more here than in the models: they are the same."""
    assert calling.WIRE_VERSION == WIRE_VERSION
    assert set(calling.PUT_OFF) <= {code.value for code in RefusalCode if not code.definite}
    assert calling.CONNECTED == zmq.EVENT_CONNECTED
    assert (Hello.model_fields["type"].default, Paste.model_fields["type"].default) == ("hello", "paste")


# Not healthy.


def test_a_key_of_another_system_is_told_at_once(system: Secured, tmp_path: Path, capsys: Said) -> None:
    init_keys(tmp_path / "others", principals_of(parse_system(SYSTEM, "secured.toml")))
    theirs = (tmp_path / "others" / "client-lp1.key").read_text()
    right = next(line for line in (system.folder / "public.keys").read_text().splitlines() if "public lpar:lp1" in line)
    (tmp_path / "mixed.keys").write_text(f"{theirs}{right}\n")
    code = check("lpar", system.device["lp1"], f"--keys={tmp_path / 'mixed.keys'}", "--timeout=600")
    assert code == ExitCode.FAILED
    assert capsys.readouterr().err == f"vasbus: unhealthy: {system.device['lp1']} does not take the key of client:lp1\n"


def test_a_check_without_a_key_is_told_that_one_is_needed(
    system: Secured, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VASBUS_KEYS", raising=False)
    assert check("nxunit", system.paste["nx0"], "--timeout=600") == ExitCode.FAILED
    assert "expects something else than a connection without a key" in capsys.readouterr().err


def test_a_wrong_key_of_the_listener_ends_with_the_deadline_and_says_that_it_is_the_keys(
    system: Secured, tmp_path: Path
) -> None:
    keys = read_keys(exported(system, "client:lp2", tmp_path))
    keys.own["client:lp1"] = keys.own.pop("client:lp2")
    keys.public["lpar:lp1"] = keys.public["nx:nx0"]
    with pytest.raises(Unhealthy, match="breaks off every handshake with the key of client:lp1"):
        health("lpar", system.device["lp1"], keys.credentials(("client",), ("lpar:{}",)), 1.0)


@pytest.mark.parametrize("role", ROLES)
def test_nobody_there_is_told_with_the_deadline(role: str, capsys: Said) -> None:
    endpoint = local()
    assert check(role, endpoint, f"--timeout={SHORT_S}") == ExitCode.UNREACHABLE
    assert capsys.readouterr().err == f"vasbus: unhealthy: {endpoint}: nobody listens there within 0.3 s\n"


def test_a_process_that_is_stopped_does_not_answer(capsys: Said) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        assert check("nxunit", endpoint, f"--timeout={SHORT_S}") == ExitCode.UNREACHABLE
    assert f"{endpoint}: no answer within 0.3 s" in capsys.readouterr().err


def test_a_partition_without_its_hypervisor_is_not_healthy(tmp_path: Path, capsys: Said) -> None:
    """It listens and takes sessions; its kernel has not booted."""
    settings = parse_system(SYSTEM, "secured.toml")
    device, absent = f"ipc://{tmp_path}/lp1.device", f"ipc://{tmp_path}/absent"
    identity = Identity("lpar", "lp1", os.urandom(16), "local", os.getpid(), {"local": device})
    halting = Halting(LparCore(settings, settings.lpar[0], identity, absent, os.urandom))
    node = Node(halting, {"device": device})
    thread = threading.Thread(target=node.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: Path(f"{tmp_path}/lp1.device").exists(), "it listens")
        assert check("lpar", device, "--timeout=0.5") == ExitCode.FAILED
        assert "the kernel has not booted within 0.5 s: has it reached its hypervisor?" in capsys.readouterr().err
    finally:
        halting.halt.set()
        thread.join(DEADLINE_S)


def said(kind: str, body: dict[str, object]) -> list[bytes]:
    head = {"v": 1, "type": kind, "epoch": 0, "number": 0, "acked": 0, "body": body}
    return [msgpack.packb(head)]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ([said("paste_refused", {})], "the NX unit is stopping"),
        ([said("paste_accepted", {})], "expected paste_faulted, came paste_accepted"),
        ([said("refused", {"code": "body", "expected": "this", "came": "that"})], "body: expected this, came that"),
        ([[b"\xc1"]], "no message of the bus"), ([[b""]], "no message of the bus"), ([[b"\x80"]], "no message of"),
        ([[msgpack.packb({"type": 7, "body": {}})]], "no message of"), ([[msgpack.packb([1])]], "no message of"),
        ([[msgpack.packb({"type": "x", "body": {}}) + b"more"]], "no message of the bus"),
    ],
)  # fmt: skip
def test_what_a_healthy_unit_would_not_say_is_told(answer: list[list[bytes]], complaint: str) -> None:
    with answering(lambda _frames: answer) as endpoint, pytest.raises(Unhealthy, match=complaint):
        health("nxunit", endpoint, None, WAIT_S)


def test_what_is_put_off_is_asked_again_until_it_is_answered() -> None:
    asked: list[bytes] = []

    def answer(frames: list[bytes]) -> list[list[bytes]]:
        asked.append(frames[0])
        if len(asked) < 3:
            return [said("probe", {}), said("refused", {"code": "retry", "after_ms": 1})]
        return [said("paste_faulted", {})]

    with answering(answer) as endpoint:
        assert health("nxunit", endpoint, None, WAIT_S) == "the NX unit answers pastes"
    assert asked[0] == asked[1] == asked[2], "it is the same question"


def test_a_process_that_shuts_down_is_not_healthy() -> None:
    refusal = said("refused", {"code": "draining", "expected": "a partition that is up", "came": "x", "after_ms": 9999})
    with (
        answering(lambda _frames: [refusal]) as endpoint,
        pytest.raises(Unhealthy, match="draining: expected a partition that is up"),
    ):
        health("lpar", endpoint, None, SHORT_S)


def test_a_partition_without_accelerators_is_healthy() -> None:
    def answer(frames: list[bytes]) -> list[list[bytes]]:
        kind = msgpack.unpackb(frames[0])["type"]
        replies = {"hello": said("welcome", {"epoch": 7}), "read_file": said("os_failure", {"errno": 2})}
        return [replies.get(kind, said("bye_done", {}))]

    with answering(answer) as endpoint:
        assert health("lpar", endpoint, None, WAIT_S) == "the kernel is up, the hypervisor offers it no accelerators"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "expected one of hypervisor, lpar, nxunit, came ''"), (["kernel", "tcp://h:1"], "came 'kernel'"),
        (["lpar"], "expected one endpoint, tcp://host:port or ipc:///path, came none"), (["lpar", "lp1"], "came lp1"),
        (["nxunit", "tcp://h:1", "tcp://h:2"], "expected one endpoint"), (["hypervisor"], "expected one endpoint"),
        (["lpar", "--hmc", "tcp://h:1"], "--hmc is for the hypervisor"), (["lpar", "--what"], "option --what"),
        (["lpar", "tcp://h:1", "--timeout", "soon"], "came 'soon'"), (["lpar", "ipc:///x", "--timeout=0"], "came '0'"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_told(
    words: list[str], complaint: str, capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VASBUS_HMC", raising=False)
    assert main(words) == ExitCode.USAGE
    assert complaint in capsys.readouterr().err


def test_an_endpoint_that_zeromq_cannot_dial_is_told(capsys: Said) -> None:
    assert main(["lpar", "tcp://host"]) == ExitCode.FAILED
    assert "cannot dial 'tcp://host'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot read the key file"), ("own client:lp1 a b", "line 1"), ("nonsense", "line 1"),
        ("", "expected a secret key of client, there are those of: none"),
    ],
)  # fmt: skip
def test_a_wrong_key_file_is_told_with_the_exit_code_of_keys(
    text: str | None, complaint: str, tmp_path: Path, capsys: Said
) -> None:
    path = tmp_path / "own.keys"
    if text is not None:
        path.write_text(text)
    assert main(["lpar", "tcp://127.0.0.1:1", f"--keys={path}"]) == ExitCode.KEYS
    printed = capsys.readouterr().err
    assert (complaint in printed, str(path) in printed, printed.count("\n")) == (True, True, 1)


def test_a_folder_with_the_keys_of_several_partitions_does_not_say_whose(system: Secured) -> None:
    with pytest.raises(BadKeys, match="one client, there are: client:lp1, client:lp2, client:lp3"):
        read_keys(system.folder).credentials(ROLES["lpar"].keys, ROLES["lpar"].listeners)
    missing = FoundKeys({"client:lp1": ("p" * 40, "s" * 40)}, {})
    with pytest.raises(BadKeys, match="no public key of lpar:lp1 or enrol: export the file again"):
        missing.credentials(ROLES["lpar"].keys, ROLES["lpar"].listeners)


def test_a_secret_is_never_shown(system: Secured, tmp_path: Path) -> None:
    found = read_keys(exported(system, "client:lp1", tmp_path))
    credentials = found.credentials(ROLES["lpar"].keys, ROLES["lpar"].listeners)
    assert credentials.secret not in repr(credentials)
    assert credentials.public in repr(credentials)


def test_the_wire_of_a_check_is_that_of_the_models() -> None:
    """Frame 0 as `encode` makes it has the same keys."""
    heard: list[bytes] = []

    def answer(frames: list[bytes]) -> list[list[bytes]]:
        heard.extend(frames)
        return [said("paste_faulted", {})]

    with answering(answer) as endpoint:
        health("nxunit", endpoint, None, WAIT_S)
    model = Hello(role="client", name="x", incarnation=bytes(16))
    assert msgpack.unpackb(heard[0]).keys() == msgpack.unpackb(encode(Envelope(model))[0]).keys()
    assert heard[1] == b""
