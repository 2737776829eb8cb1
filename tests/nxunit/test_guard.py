"""The lock of a unit's process: who has it, and what having it proves."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nxunit.guard import GuardHeld, take_guard

HOLDER = """
import sys
from nxunit.guard import take_guard
guard = take_guard(sys.argv[1])
print(guard.name.hex(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/nx0.paste"


def name_of(endpoint: str) -> bytes:
    """The guard's name, taken and given back."""
    guard = take_guard(endpoint)
    assert guard is not None
    guard.release()
    return guard.name


def test_the_next_holder_of_a_lock_has_the_same_guard(endpoint: str) -> None:
    assert name_of(endpoint) == name_of(endpoint)


def test_units_have_guards_of_their_own(endpoint: str) -> None:
    assert name_of(endpoint) != name_of(endpoint + "-of-another")


def test_one_process_at_a_time_has_it(endpoint: str) -> None:
    guard = take_guard(endpoint)
    assert guard is not None
    with pytest.raises(GuardHeld, match=r"another process serves this unit.*nx0\.paste\.lock"):
        take_guard(endpoint)
    guard.release()
    assert name_of(endpoint) == guard.name


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_process_keeps_it_and_a_dead_one_does_not(endpoint: str, end: signal.Signals) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, endpoint], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        name = bytes.fromhex(holder.stdout.readline())
        holder.send_signal(signal.SIGSTOP)
        with pytest.raises(GuardHeld):
            take_guard(endpoint)
        holder.send_signal(signal.SIGCONT)
        holder.send_signal(end)
        holder.wait(30)
        assert name_of(endpoint) == name
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_whose_file_was_removed_proves_nothing_about_its_holder(endpoint: str, tmp_path: Path) -> None:
    old = take_guard(endpoint)
    assert old is not None
    (tmp_path / "nx0.paste.lock").unlink()
    new = take_guard(endpoint)
    assert new is not None
    assert new.name != old.name, "both are alive"
    old.release()
    new.release()


def test_a_file_that_is_removed_while_it_is_being_locked_is_not_the_lock(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removals, flock = [tmp_path / "nx0.paste.lock"], fcntl.flock

    def removed_meanwhile(descriptor: int, operation: int) -> None:
        for path in removals:
            path.unlink()
        removals.clear()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    guard = take_guard(endpoint)
    assert guard is not None
    with pytest.raises(GuardHeld):
        take_guard(endpoint)
    guard.release()


def test_a_link_in_place_of_the_file_is_refused(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "nx0.paste.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        take_guard(endpoint)
    assert not os.path.lexists(tmp_path / "elsewhere")


def test_elsewhere_than_on_this_machine_there_is_no_lock() -> None:
    assert take_guard("tcp://127.0.0.1:5555") is None
