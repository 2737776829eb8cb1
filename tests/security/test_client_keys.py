"""What a client's key is good for in its partition: what any user's process may do there, and not what root may."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

import lpar.serve
from lpar.client import KernelFailure, Lpar
from lpar.core import LparCore
from protocol.codes import ExitCode, KernelReason
from protocol.effects import Exit
from protocol.endpoint import UNGUARDED, Security
from protocol.key_files import make_pair
from protocol.key_source import KeySource
from protocol.keys import Keyring, Principal
from protocol.system import local_addresses, parse_system
from tests.failures.rows import failure
from tests.security.system import SYSTEM, Secured

MANAGING = {
    "/proc/powerpc/lparcfg": "partition_entitled_capacity=150\n",
    "/sys/kernel/mobility/migration": "1\n",
    "/sys/devices/virtual/misc/vas/vas0/gzip/qos_capabilities/update_total_credits": "7\n",
}


@failure(
    "security",
    "a client with a partition's key writes the files that manage the partition",
    seen="It gets EACCES (`not_root`), as a process that is not root's does on the real machine.",
    lasts="Always; the console's key can change the partition.",
    kept="The entitlement, the QoS credits and the place of the partition.",
)
def test_a_clients_key_manages_no_partition(system: Secured) -> None:
    with Lpar(system.device["lp1"], keys=system.keyring("client:lp1")) as partition:
        for path, text in MANAGING.items():
            with pytest.raises(KernelFailure) as failed:
                partition.write(path, text)
            assert (failed.value.errno, failed.value.reason) == (errno.EACCES, KernelReason.NOT_ROOT), path
        with pytest.raises(KernelFailure) as failed:
            partition.write("/no/such/file", "")
        assert failed.value.errno == errno.ENOENT
        assert "shared_processor_mode" in partition.read("/proc/powerpc/lparcfg")
    assert not system.hypervisor.configurations.queues.get("lp1")


@pytest.mark.parametrize(
    ("keys", "endpoint", "root"),
    [(True, "tcp://127.0.0.1:7200", False), (True, "ipc:///run/device", True), (False, "tcp://127.0.0.1:7200", True)],
)
def test_only_who_comes_by_a_key_is_told_apart_from_root(
    keys: bool, endpoint: str, root: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a folder that is its user's alone, and with --insecure, everybody who comes may do everything."""
    made: list[LparCore] = []

    def run_node(core: LparCore, *_: object, **__: object) -> Exit:
        made.append(core)
        return Exit(ExitCode.OK, "")

    monkeypatch.setattr(lpar.serve, "run_node", run_node)
    settings = parse_system(SYSTEM, "secured.toml")
    addresses = local_addresses(settings, str(tmp_path)).model_copy(update={"device": {"lp1": endpoint}})
    security = Security(KeySource(Keyring(Principal.parse("lpar:lp1"), make_pair(), {}))) if keys else UNGUARDED
    lpar.serve.serve(settings, addresses, "lp1", security=security)
    assert made[0].kernel.calls.clients_are_root is root
