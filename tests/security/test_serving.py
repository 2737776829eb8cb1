"""What the command line lets a process do with its tcp sockets, and how it ends where it may not. Real processes."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hmc.connection import Console, ConsoleRefused
from protocol.codes import ExitCode
from protocol.key_files import export_keys, init_keys
from protocol.keys import KeysError, Principal, principals_of
from protocol.system import Addresses, local_addresses, parse_system
from tests.failures.rows import failure
from tests.security.system import DEADLINE_S, SYSTEM, free_port
from vasbus.command import app
from vasbus.serve_places import addresses_in, placed, security_of


@dataclass
class Shell:
    """A folder with a system file, and the processes that were started from it."""

    folder: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def words(self, role: str, *more: str) -> list[str]:
        ledger = ["--ledger", str(self.folder / "ledger")] if role == "hypervisor" else []
        places = [
            "--system",
            str(self.folder / "system.toml"),
            "--runtime",
            str(self.folder / "run"),
            "--metrics",
            "off",
        ]
        return ["serve", role, *more[:1], *places, *ledger, *more[1:]] if role != "hypervisor" else [
            "serve", role, *places, *ledger, *more,
        ]  # fmt: skip

    def start(self, role: str, *more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "vasbus", *self.words(role, *more)], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Its exit code and what it said, with blanks for line ends."""
        output, _ = process.communicate(timeout=DEADLINE_S)
        return process.returncode, " ".join(output.split())


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "system.toml").write_text(SYSTEM)
    shell = Shell(tmp_path)
    yield shell
    for process in shell.processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@failure(
    "security",
    "a process is told to listen on tcp beyond its machine, and has no keys",
    seen="It ends at once with exit code 20 and says how to make keys; `--insecure` lets it, and warns in the log.",
    lasts="Until it has keys or is told `--insecure`.",
    kept="Nobody could connect meanwhile.",
)
def test_without_keys_tcp_listens_on_loopback_only_unless_insecure_is_said(shell: Shell) -> None:
    exposed = f"hmc=tcp://0.0.0.0:{free_port()}"
    code, said = shell.end(shell.start("hypervisor", "--listen", exposed))
    assert code == ExitCode.INSECURE
    for advice in (exposed.removeprefix("hmc="), "--keys", "vasbus keys init", "--insecure"):
        assert advice in said
    process = shell.start("hypervisor", "--listen", exposed, "--insecure")
    with Console(exposed.removeprefix("hmc=").replace("0.0.0.0", "127.0.0.1")) as console:
        assert console.system(DEADLINE_S).system == "secured"
    process.send_signal(signal.SIGTERM)
    code, said = shell.end(process)
    assert code == ExitCode.OK
    assert "insecure" in said


@failure(
    "security",
    "an NX unit or a partition is started with a key that the hypervisor does not know",
    seen="It ends with exit code 8 and says whose key was refused where; the hypervisor logs `key_refused`.",
    lasts="Until it has the right key.",
    kept="Everything else goes on.",
)
def test_a_process_with_a_wrong_key_ends_with_one_clear_line(shell: Shell) -> None:
    everybody = principals_of(parse_system(SYSTEM, "secured.toml"))
    keys, others = shell.folder / "keys", shell.folder / "others"
    init_keys(keys, everybody)
    init_keys(others, everybody)
    observer, mixed = shell.folder / "observer.keys", shell.folder / "mixed.keys"
    export_keys(keys, [Principal.parse("observer")], observer)
    hcall, hmc = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    serving = shell.start("hypervisor", "--listen", f"hcall={hcall}", "--listen", f"hmc={hmc}", "--keys", str(keys))
    with Console(hmc, keys=observer) as console:
        assert not console.system(DEADLINE_S).recovering
        with pytest.raises(ConsoleRefused, match="observer"):
            console.change_processors("lp1", 1)
    status = CliRunner().invoke(app, ["--keys", str(observer), "status", "--hmc", hmc], env={"VASBUS_KEYS": ""})
    assert status.exit_code == 0, status.output
    assert "secured" in status.output
    # A key of another system, and the right key of the hypervisor.
    own = (others / "lpar-lp1.key").read_text()
    right = next(line for line in (keys / "public.keys").read_text().splitlines() if "public hypervisor" in line)
    mixed.write_text(f"{own}{right}\n")
    code, said = shell.end(shell.start("lpar", "lp1", "--dial", f"hcall={hcall}", "--keys", str(mixed)))
    assert code == ExitCode.REFUSED
    assert f"{hcall} does not take the key of lpar:lp1" in said
    serving.send_signal(signal.SIGTERM)
    code, said = shell.end(serving)
    assert code == ExitCode.OK
    assert "key_refused" in said


def addresses() -> Addresses:
    return local_addresses(parse_system(SYSTEM, "secured.toml"), "/run/x")


def test_a_process_without_its_key_does_not_start(shell: Shell) -> None:
    keys, nx0 = shell.folder / "keys", Principal.parse("nx:nx0")
    with pytest.raises(KeysError, match="cannot read the key file"):
        security_of(keys, nx0, addresses(), insecure=False)
    init_keys(keys, [Principal.parse("lpar:lp1"), nx0])
    assert security_of(keys, nx0, addresses(), insecure=False).keys is not None
    dialled = placed(addresses(), "nxunit", "nx0", None, ["fabric=tcp://127.0.0.1:9"], None)
    with pytest.raises(KeysError, match="no public key of hypervisor"):
        security_of(keys, nx0, dialled, insecure=False)
    code, said = shell.end(shell.start("lpar", "lp2", "--keys", str(keys)))
    assert code == ExitCode.KEYS
    assert "expected a secret key of lpar:lp2" in said
    assert (shell.folder / "run").stat().st_mode & 0o777 == 0o700, "this mode guards the sockets without keys"


def test_keys_and_insecure_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="came both"):
        security_of(tmp_path, Principal.parse("hypervisor"), addresses(), insecure=True)


@pytest.mark.parametrize(
    ("option", "words", "complaint"),
    [
        ("listen", ["hcall=tcp://127.0.0.1:1"], "one of paste"), ("listen", ["paste=tcp://host"], "a port from 1"),
        ("dial", ["hcall=tcp://127.0.0.1:1"], "one of fabric"), ("listen", ["paste"], "one of paste"),
        ("listen", ["paste=tcp://*:7000"], "--advertise NETWORK=ENDPOINT"), ("advertise", ["a b=ipc:///x"], "letters"),
        ("listen", ["paste=ipc:///a", "paste=ipc:///b"], "once"),
    ],
)  # fmt: skip
def test_places_that_make_no_sense_are_told(option: str, words: list[str], complaint: str) -> None:
    given = {"listen": None, "dial": None, "advertise": None, option: words}
    with pytest.raises(typer.BadParameter, match=complaint):
        placed(addresses(), "nxunit", "nx0", given["listen"], given["dial"], given["advertise"])


def test_a_process_listens_dials_and_is_advertised_where_it_is_told() -> None:
    there, inside, host = "tcp://*:7200", "tcp://lp1:7200", "tcp://127.0.0.1:17200"
    told = placed(
        addresses(), "lpar", "lp1", [f"device={there}"], ["hcall=tcp://hv:7101"],
        [f"local={inside}", f"host={host}"],
    )  # fmt: skip
    assert told.device == {**addresses().device, "lp1": there}
    assert told.hcall == "tcp://hv:7101"
    assert told.advertised == {"local": inside, "host": host}
    assert placed(addresses(), "lpar", "lp1", None, None, None) == addresses()


def test_the_hostname_stands_in_an_endpoint_for_the_machines_own() -> None:
    """A container's is known only when it is made."""
    name = socket.gethostname()
    told = placed(
        addresses(), "lpar", "lp1", ["device=tcp://{hostname}:7101"], None,
        ["inside=tcp://{hostname}:7101", "host=tcp://127.0.0.1:17101"],
    )  # fmt: skip
    assert told.device["lp1"] == f"tcp://{name}:7101"
    assert told.advertised == {"inside": f"tcp://{name}:7101", "host": "tcp://127.0.0.1:17101"}
    with pytest.raises(typer.BadParameter, match="expected a port"):
        placed(addresses(), "lpar", "lp1", ["device=tcp://{host}"], None, None)


def test_without_a_folder_every_link_of_the_role_has_to_be_placed() -> None:
    system = parse_system(SYSTEM, "secured.toml")
    listen, dial = ["paste=tcp://127.0.0.1:7300"], ["fabric=tcp://127.0.0.1:7102"]
    with pytest.raises(typer.BadParameter, match="expected a folder, or --dial fabric=ENDPOINT"):
        addresses_in(system, None, "nxunit", listen, None)
    with pytest.raises(
        typer.BadParameter, match="expected a folder, or --listen device=ENDPOINT, --dial hcall=ENDPOINT"
    ):
        addresses_in(system, None, "lpar", None, None)
    told = placed(addresses_in(system, None, "nxunit", listen, dial), "nxunit", "nx0", listen, dial, None)
    assert (told.paste["nx0"], told.fabric) == ("tcp://127.0.0.1:7300", "tcp://127.0.0.1:7102")
    assert addresses_in(system, Path("/run/x"), "hypervisor", None, None) == addresses()
