"""Processes that share nothing, each with its own keys: what users do over tcp."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

from protocol.codes import ExitCode
from tests.processes.tcp.system import DATA, ROLES, ROOT, Apart


def test_the_tour_holds_with_keys_over_tcp(system: Apart) -> None:
    keys = system.for_user("tour.keys", "hmc", "client:lp1", "client:lp2", "client:lp3")
    text = system.run(keys, "demo", "--hmc", system.links["hmc"], "--input", str(ROOT / "lpar"), "--megabytes", "1")
    assert text.splitlines()[-1].startswith("The tour held: 33 checks")


def test_the_commands_work_over_tcp_with_a_users_keys(system: Apart) -> None:
    keys = system.for_user("operator.keys", "hmc", "client:lp1")
    hmc = ("--hmc", system.links["hmc"])
    assert "apart: hypervisor pid" in system.run(keys, "status", *hmc)
    drmgr = ("--", "drmgr", "-c", "cpu", "-r", "-q", "1")
    assert "CPU" in system.run(keys, "lpar", "exec", *hmc, "lp1", *drmgr)
    assert "20 -> 40" in system.run(keys, "hmc", "dlpar", *hmc, "lp1", "--cores", "1")
    (system.folder / "data").write_bytes(DATA)
    system.run(keys, "gzip", "--lpar", "lp1", *hmc, "data")
    assert gzip.decompress((system.folder / "data.gz").read_bytes()) == DATA
    seen = json.loads(system.run(keys, "top", "--once", "--json", *hmc))
    assert {name for name in ROLES if ROLES[name] == "lpar"} == set(seen["lpars"])


def test_the_example_works_with_a_key_from_the_environment(system: Apart) -> None:
    (system.folder / "plain").write_bytes(DATA)
    keys = system.for_user("example.keys", "client:lp1")
    command = [sys.executable, str(ROOT / "examples" / "compress_file.py"), system.links["lp1"], "plain", "packed"]
    done = subprocess.run(
        command, cwd=system.folder, env=system.environment(keys), capture_output=True, text=True, timeout=60.0
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "bytes by nx" in done.stdout
    assert gzip.decompress((system.folder / "packed").read_bytes()) == DATA


def test_each_process_ends_in_order_when_asked_to(system: Apart) -> None:
    parts = sorted(ROLES, key=lambda name: ("lpar", "nxunit", "hypervisor").index(ROLES[name]))
    assert {name: system.end(name) for name in parts} == dict.fromkeys(parts, ExitCode.OK)
    for name in ROLES:
        system.start(name)
