"""Keys are taken out while strangers have every descriptor of a process: that counts, and ends nothing."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zmq

from protocol import memory
from protocol.curve import dial_with
from protocol.key_changes import revoke_keys
from protocol.key_files import export_keys, init_keys, key_source, load_keys, make_pair
from protocol.keys import Keyring, KeyRole, Principal, principals_of
from protocol.memory import SPARE_DESCRIPTORS, limit_descriptors
from protocol.publisher import Publisher
from protocol.system import parse_system
from protocol.zap import ZapHandler
from tests.failures.rows import failure
from tests.security.system import DEADLINE_S, SYSTEM, free_port

HYPERVISOR, LP1 = Principal(KeyRole.HYPERVISOR), Principal(KeyRole.LPAR, "lp1")
OBSERVER = Principal(KeyRole.OBSERVER)
MORE_DESCRIPTORS = 16
FORMS = ["folder", "file"]
ANSWERS_MS = 20


@contextmanager
def all_descriptors_taken() -> Iterator[None]:
    """No more can be opened than there are; the limit may be raised, as that of a process may that has lowered it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + MORE_DESCRIPTORS, hard))
    held: list[int] = []
    try:
        with suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/dev/null", os.O_RDONLY)
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def no_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may have no more: its limit cannot be raised, or what it was raised by is taken as well."""
    monkeypatch.setattr(memory, "SPARE_DESCRIPTORS", 0)


class Revoking:
    """The hypervisor's keys in one of their two forms, out of which a partition's are taken."""

    def __init__(self, folder: Path, form: str) -> None:
        self.folder, self.form = folder / "keys", form
        self.file = folder / "hypervisor.keys"
        init_keys(self.folder, principals_of(parse_system(SYSTEM, "secured.toml")))
        self.victim = load_keys(self.folder).own[LP1].public
        if form == "file":
            export_keys(self.folder, [HYPERVISOR], self.file)
        path = self.folder if form == "folder" else self.file
        self.source = key_source(path, lambda keys: keys.keyring(HYPERVISOR))
        assert self.is_taken

    def revoke(self) -> None:
        revoke_keys(self.folder, LP1)
        if self.form == "file":
            export_keys(self.folder, [HYPERVISOR], self.file, replace=True)

    @property
    def is_taken(self) -> bool:
        return self.source.keyring.authorise("hcall", self.victim) is not None


@failure(
    "security",
    "a key is taken out while strangers have every descriptor of the process",
    seen="The key is shut out as always. Where the process may have no more descriptors at all: one line "
    "`keys_unreadable`, and the key is shut out as soon as one is free.",
    lasts="Until the next look at the key file, a second later, at which a descriptor is free.",
    kept="The process, and everybody else's connections.",
)
@pytest.mark.parametrize("form", FORMS)
def test_a_key_is_taken_out_also_while_no_descriptor_is_free(tmp_path: Path, form: str) -> None:
    keys = Revoking(tmp_path, form)
    keys.revoke()
    with all_descriptors_taken():
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        read = keys.source.refresh()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
        assert read is not None
        assert not read.problem
        assert read.shut_out == {keys.victim}
        assert not keys.is_taken


@pytest.mark.usefixtures("no_spare")
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_could_not_be_read_for_want_of_descriptors_is_read_as_soon_as_one_is_free(
    tmp_path: Path, form: str
) -> None:
    keys = Revoking(tmp_path, form)
    keys.revoke()
    with all_descriptors_taken():
        read = keys.source.refresh()
        assert read is not None
        assert "Too many open files" in read.problem
        assert (read.line().level, read.line().event) == ("error", "keys_unreadable")
        assert [keys.source.refresh() for _ in range(3)] == [None, None, None], "one line"
        assert keys.is_taken, "nobody is shut out by a mistake"
    again = keys.source.refresh()
    assert again is not None
    assert again.shut_out == {keys.victim}
    assert keys.source.refresh() is None


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize(
    ("form", "broken"),
    [("file", (Path, "open")), ("file", (Path, "is_dir")), ("folder", (Path, "open")), ("folder", (os, "listdir"))],
)
def test_an_error_of_the_disk_that_passes_uses_no_change_up(
    tmp_path: Path, form: str, broken: tuple[object, str], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Revoking(tmp_path, form)
    keys.revoke()

    def fails(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(*broken, fails)
        read = keys.source.refresh()
        assert read is not None
        assert os.strerror(number) in read.problem
        assert keys.source.refresh() is None, "one line"
        assert keys.is_taken
    assert keys.source.refresh() is not None
    assert not keys.is_taken


def test_each_time_that_a_file_cannot_be_reached_is_told_once(tmp_path: Path) -> None:
    keys = Revoking(tmp_path, "file")
    text = keys.file.read_text()

    def problems() -> list[bool]:
        found = [keys.source.refresh() for _ in range(3)]
        return [read is not None and bool(read.problem) for read in found]

    for _ in range(2):
        keys.file.unlink()
        assert problems() == [True, False, False]
        keys.file.write_text(text)
        assert problems() == [False, False, False]
    keys.file.write_text("public nobody\n")
    assert problems() == [True, False, False]


@pytest.mark.parametrize("hard", [64, 1024, 4096])
def test_a_process_that_limits_its_descriptors_can_have_a_few_more_for_a_moment(
    hard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [(hard, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, asked: limits.append(asked))
    limit_descriptors(1 << 20, None)
    soft = limits[-1][0]
    assert hard - SPARE_DESCRIPTORS <= soft < hard
    with memory.spare_descriptors():
        assert soft < limits[-1][0] <= min(hard, soft + SPARE_DESCRIPTORS)
    assert limits[-1] == (soft, hard)


# The telemetry stream, whose subscribers are cut off by binding anew.


class Stream:
    """A publisher with the hypervisor's keys, and a subscriber with an observer's."""

    def __init__(self, endpoint: str, host: str) -> None:
        pairs = {HYPERVISOR: make_pair(), OBSERVER: make_pair()}
        public = {owner: (pair.public,) for owner, pair in pairs.items()}
        rings = {owner: Keyring(owner, pair, public) for owner, pair in pairs.items()}
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.poller = zmq.Poller()
        self.zap = ZapHandler(self.context, lambda: rings[HYPERVISOR], self.poller)
        self.publisher = Publisher(self.context, endpoint, rings[HYPERVISOR])
        self.subscriber = self.context.socket(zmq.SUB)
        self.subscriber.setsockopt(zmq.LINGER, 0)
        self.subscriber.setsockopt(zmq.IPV6, 1)
        self.subscriber.setsockopt(zmq.SUBSCRIBE, b"")
        self.monitor: zmq.Socket[bytes] = self.subscriber.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        dial_with(self.subscriber, rings[OBSERVER], "telemetry")
        self.subscriber.connect(f"tcp://{host}:{endpoint.rpartition(':')[2]}")
        self._told = 0

    def is_heard(self) -> bool:
        """Whether what is published from now on comes."""
        self._told += 1
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            self._turn([b"%d" % self._told])
            if self.subscriber.poll(ANSWERS_MS) and self.subscriber.recv() == b"%d" % self._told:
                return True
        return False

    def _turn(self, message: list[bytes]) -> None:
        """What a process does: libzmq ends no connection that its ZAP handler and its publisher know nothing of."""
        self.poller.poll(ANSWERS_MS)
        assert not list(self.zap.serve()), "nobody is refused"
        self.publisher.send(message)

    def is_cut_off(self) -> bool:
        """Whether the subscriber's connection ends, at the latest when something is published."""
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            self._turn([b"0"])
            if self.monitor.poll(ANSWERS_MS):
                self.monitor.recv_multipart()
                return True
        return False

    def close(self) -> None:
        self.subscriber.disable_monitor()
        self.publisher.close()
        self.zap.close()
        self.context.destroy(linger=0)


@contextmanager
def stream(host: str = "127.0.0.1", dialled: str = "127.0.0.1") -> Iterator[Stream]:
    opened = Stream(f"tcp://{host}:{free_port()}", dialled)
    try:
        yield opened
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("host", "dialled"),
    [("*", "127.0.0.1"), ("lo", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "127.0.0.1"), ("[::]", "[::1]")],
)
def test_subscribers_are_cut_off_and_come_back_wherever_the_stream_is(host: str, dialled: str) -> None:
    with stream(host, dialled) as published:
        assert published.is_heard()
        for _ in range(3):
            assert published.publisher.admit_again(anew=True) is None
            assert published.is_cut_off()
            assert published.is_heard()


def test_nobody_else_can_take_the_port_of_the_stream_while_its_subscribers_are_cut_off() -> None:
    with stream() as published:
        thief = published.context.socket(zmq.PUB)
        for _ in range(20):
            published.publisher.admit_again(anew=True)
            with pytest.raises(zmq.ZMQError) as caught:
                thief.bind(published.publisher.endpoint)
            assert caught.value.errno == zmq.EADDRINUSE
        thief.close()
        assert published.is_heard()


def test_subscribers_are_cut_off_also_while_no_descriptor_is_free() -> None:
    with stream() as published:
        assert published.is_heard()
        with all_descriptors_taken():
            assert published.publisher.admit_again(anew=True) is None
            assert published.is_cut_off()
        assert published.is_heard()


@pytest.mark.usefixtures("no_spare")
def test_subscribers_that_cannot_be_cut_off_for_want_of_descriptors_are_as_soon_as_one_is_free() -> None:
    with stream() as published:
        assert published.is_heard()
        with all_descriptors_taken():
            line = published.publisher.admit_again(anew=True)
            assert line is not None
            assert (line.level, line.event) == ("error", "subscribers_kept")
            assert "Too many open files" in str(line.facts)
            assert [published.publisher.admit_again(anew=False) for _ in range(3)] == [None, None, None], "one line"
        back = published.publisher.admit_again(anew=False)
        assert back is not None
        assert (back.level, back.event) == ("info", "subscribers_cut_off")
        assert published.is_cut_off()
        assert published.publisher.admit_again(anew=False) is None
        assert published.is_heard()
