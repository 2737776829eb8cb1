"""The seven steps of the tour. Each prints what it does and checks what it claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hmc.connection import ConsoleRefused
from protocol.codes import CreditType, FallbackReason
from protocol.console_messages import ConfigurationApplied, SetEntitlement
from protocol.system import HUNDREDTHS_PER_CORE
from protocol.telemetry_messages import ConfigurationMoved, HcallMade
from vasbus.survey import pool
from vasbus.tour.crew import Client, TourFailure, ask_all, windows_of
from vasbus.tour.orders import Attempt, Close, Compress, Open, Reply, Report, Rest, WindowReport, Work
from vasbus.tour.stage import Stage

CLIENTS_PER_LPAR = 4
LPARS = ("lp1", "lp2", "lp3")
EXPECTED_TOTALS = {"lp1": 40, "lp2": 40, "lp3": 16}
CHANGE_WAIT_MS = 30_000


def credits_from_entitlement(stage: Stage) -> None:
    """1: the partitions come up with credits from their entitlement."""
    stage.title(1, "Partitions come up with credits from their processor entitlement")
    names = tuple(sorted(status.name for status in stage.system().lpars))
    stage.check(names == LPARS, "the system has the partitions lp1, lp2 and lp3", names)
    stage.credit_table()
    for lpar, expected in EXPECTED_TOTALS.items():
        kernel = stage.counters(lpar)
        stage.check(kernel.default_total == expected, f"{lpar}: nr_total_credits is {expected}", kernel.default_total)
        stage.check(kernel.default_used == 0, f"{lpar}: nr_used_credits is 0", kernel.default_used)


def work_on_every_file(stage: Stage) -> None:
    """2: client processes open windows and compress everything."""
    stage.title(2, "Client processes open windows and compress every input file")
    for lpar in LPARS:
        fallbacks = ["zlib"] * (CLIENTS_PER_LPAR - 1) + ["lzo"]
        stage.crew.start(lpar, stage.device(lpar), fallbacks)
    for lpar in LPARS:
        _open_round_robin(stage, stage.crew.of(lpar), EXPECTED_TOTALS[lpar])
    stage.credit_table()
    clients = stage.crew.everybody()
    shares = stage.inputs.shares(len(clients))
    stage.say(
        f"{len(clients)} processes, {len(stage.inputs.paths)} files of {stage.inputs.bytes_per_round / 1e6:.1f} MB, "
        f"{stage.inputs.rounds} times"
    )
    for client, share in zip(clients, shares, strict=True):
        client.tell(Compress(paths=share, rounds=stage.inputs.rounds))
    replies = [client.hear() for client in clients]
    files = sum(reply.files for reply in replies)
    input_bytes = sum(reply.input_bytes for reply in replies)
    output_bytes = sum(reply.output_bytes for reply in replies)
    stage.add("input_bytes", input_bytes)
    stage.check(
        files == len(stage.inputs.paths) * stage.inputs.rounds,
        f"{files} files, {input_bytes / 1e6:.1f} MB compressed to {output_bytes / 1e6:.1f} MB, decompressed, compared",
        files,
    )
    units = dict.fromkeys(sorted(unit.name for unit in stage.system().units), 0)
    for window in windows_of(ask_all(clients, Report())):
        units[window.unit] += window.nx_bytes
    for unit, nx_bytes in units.items():
        stage.check(nx_bytes > 0, f"NX unit {unit} worked on {nx_bytes / 1e6:.1f} MB", nx_bytes)


def refusals(stage: Stage) -> None:
    """3: both kinds of refusal."""
    stage.title(3, "Refusals: by the partition itself, and by the hypervisor")
    client = stage.crew.of("lp1")[0]
    stage.forget_messages()
    reply = client.ask(Open(count=1))
    _say_all(stage, reply.seen)
    _check_refused(stage, reply.attempts[0], "EINVAL", "lp1 refuses a window beyond its total with EINVAL")
    hcalls = stage.messages(lambda message: isinstance(message, HcallMade) and message.lpar == "lp1")
    stage.check(not hcalls, "no hcall was sent for it")

    client = stage.crew.of("lp3")[0]
    client.ask(Close(count=1))
    stage.console.hold_notifications("lp3", True)
    stage.say("lp3's entitlement is halved, but the news is held back from its kernel")
    change = SetEntitlement(lpar="lp3", hundredths=40, wait_ms=CHANGE_WAIT_MS)
    number = stage.console.begin(change)
    stage.wait_until("the hypervisor lowered lp3's target to 8", lambda: _target(stage, "lp3") == 8)
    kernel = stage.counters("lp3")
    stage.check(kernel.default_total == 16, "lp3's kernel still believes in 16 credits", kernel.default_total)
    stage.forget_messages()
    reply = client.ask(Open(count=1))
    _say_all(stage, reply.seen)
    for message in stage.messages(lambda message: isinstance(message, HcallMade) and message.lpar == "lp3"):
        stage.show(message)
    attempt = reply.attempts[0]
    _check_refused(stage, attempt, "EIO", "the open reaches the hypervisor and fails with EIO")
    stage.check(attempt.hcall == "H_RESOURCE", "because H_ALLOCATE_VAS_WINDOW returned H_RESOURCE", attempt.hcall)
    stage.console.hold_notifications("lp3", False)
    applied = stage.console.finish(number, ConfigurationApplied, CHANGE_WAIT_MS / 1000)
    stage.check(
        len(applied.closed) == 7, "once the news is through, lp3 closes the 7 windows in excess", applied.closed
    )
    applied = stage.console.set_entitlement("lp3", 80)
    stage.check(len(applied.reopened) == 7, "its entitlement back, the 7 windows are reopened", applied.reopened)
    _open(stage, stage.crew.of("lp3")[0])
    stage.add("refused_by_lpar", 1)
    stage.add("refused_by_hypervisor", 1)


def core_removal(stage: Stage) -> None:
    """4: a core is taken from lp1 under load."""
    stage.title(4, "A core is removed from lp1 while its clients work")
    clients = stage.crew.of("lp1")
    before = {window.window_id: window for window in windows_of(ask_all(clients, Report()))}
    newest = [int(words[2]) for words in stage.kernel_windows("lp1")]
    _start_work(stage, clients)
    stage.forget_messages()
    applied = stage.console.change_processors("lp1", -1)
    moved = stage.messages(lambda message: isinstance(message, ConfigurationMoved) and message.step != "queued")
    for message in moved:
        stage.show(message)
    stage.facts["removal_us"] = applied.elapsed_us
    stage.check(
        list(applied.closed) == newest[:20],
        "lp1 closes exactly its 20 newest windows, newest first: " + _span(applied.closed),
        applied.closed,
    )
    stage.say(f"from core removal to the last window closed: {applied.elapsed_us / 1000:.1f} ms")
    kernel = stage.counters("lp1")
    stage.credit_table()
    stage.check((kernel.default_total, kernel.default_used) == (20, 40), "used (40) exceeds total (20)", kernel)
    middle = {window.window_id: window for window in windows_of(_rest_and_report(stage, clients))}
    _start_work(stage, clients)
    after = {window.window_id: window for window in windows_of(_rest_and_report(stage, clients))}
    closed = set(applied.closed)
    suspended = _software(after.values(), FallbackReason.WINDOW_SUSPENDED)
    stage.check(suspended > 0, f"their clients went on in software with {suspended / 1e6:.1f} MB, output compared")
    stage.check(
        all(after[window_id].nx_bytes == middle[window_id].nx_bytes for window_id in closed),
        "pastes on the closed windows fail: none of them moved a byte through an NX unit",
    )
    kept = [window for window in after.values() if window.window_id not in closed]
    stage.check(
        len(kept) == 20 and all(window.nx_bytes > before[window.window_id].nx_bytes for window in kept),
        "the 20 windows that kept their credit went on untouched",
    )
    stage.check(
        all(window.software_bytes.get(FallbackReason.WINDOW_SUSPENDED, 0) == 0 for window in kept),
        "and none of their bytes fell back",
    )


def core_given_away(stage: Stage) -> None:
    """5: the core goes to lp2."""
    stage.title(5, "The same core is given to lp2")
    clients = stage.crew.of("lp2")
    reply = clients[0].ask(Open(count=1))
    _check_refused(stage, reply.attempts[0], "EINVAL", "before, lp2 is refused another window")
    stage.add("refused_by_lpar", 1)
    applied = stage.console.change_processors("lp2", +1)
    stage.check(applied.total_after == 60, "with the core lp2 has 60 credits", applied.total_after)
    _open_round_robin(stage, clients, 20)
    stage.check(stage.counters("lp2").default_used == 60, "and opens 20 more windows at once")
    stage.credit_table()
    spare = stage.console.system().hundredths_free // HUNDREDTHS_PER_CORE
    try:
        stage.console.change_processors("lp1", spare + 1)
    except ConsoleRefused as refusal:
        failure = refusal.failure
        besides = f" besides the {spare} that nobody has" if spare else ""
        stage.check(
            failure.available == spare,
            f"lp1 cannot have it back{besides} meanwhile: {failure.available} available, {failure.assigned} assigned, "
            f"{failure.requested} requested",
        )
    else:
        raise TourFailure("lp1 was given a core that lp2 has")


def core_returned(stage: Stage) -> None:
    """6: lp1 gets its core back."""
    stage.title(6, "The core goes back to lp1")
    clients = stage.crew.of("lp1")
    ask_all(stage.crew.of("lp2"), Close(count=20 // CLIENTS_PER_LPAR))
    stage.console.change_processors("lp2", -1)
    descriptors = {(words[4], words[5]) for words in stage.kernel_windows("lp1")}
    before = windows_of(ask_all(clients, Report()))
    applied = stage.console.change_processors("lp1", +1)
    stage.check(len(applied.reopened) == 20, "20 windows are reopened, with new ids: " + _span(applied.reopened))
    rows = {row.window_id: row.process_id for row in stage.console.windows("lp1")}
    pids = {client.pid for client in clients}
    listed = {int(words[2]): (int(words[4]), words[5]) for words in stage.kernel_windows("lp1")}
    stage.check(
        all(rows[window_id] in pids and rows[window_id] == listed[window_id][0] for window_id in applied.reopened),
        "the hypervisor has them under the opener's pid",
    )
    kept = {(str(pid), descriptor) for pid, descriptor in listed.values()}
    stage.check(kept == descriptors, "on the same descriptors as before")
    stage.check(
        sum(window.remaps for window in before) == _remaps(clients), "nothing is remapped before the next paste"
    )
    _start_work(stage, clients)
    after = windows_of(_rest_and_report(stage, clients))
    remapped = sum(window.remaps for window in after) - sum(window.remaps for window in before)
    stage.check(remapped == 20, f"each one's next paste faults and is remapped ({remapped}), and succeeds", remapped)
    suspended_before = _software(before, FallbackReason.WINDOW_SUSPENDED)
    suspended_after = _software(after, FallbackReason.WINDOW_SUSPENDED)
    stage.check(suspended_after == suspended_before, "nothing falls back any more", suspended_after - suspended_before)
    stage.credit_table()


def summary(stage: Stage) -> None:
    """7: what happened, in figures."""
    stage.title(7, "Summary")
    windows = windows_of(ask_all(stage.crew.everybody(), Report()))
    nx_bytes = sum(window.nx_bytes for window in windows)
    rows: list[tuple[str, str]] = [("bytes handled by NX units", f"{nx_bytes / 1e6:.1f} MB")]
    for reason in FallbackReason:
        amount = _software(windows, reason)
        if amount:
            rows.append((f"bytes handled by software, {reason}", f"{amount / 1e6:.1f} MB"))
    rows += [
        ("pastes accepted", str(sum(window.pastes for window in windows))),
        ("pastes refused (busy or suspended)", str(sum(window.refused for window in windows))),
        ("windows opened", str(stage.facts["opens"])),
        ("opens refused by a partition (EINVAL)", str(stage.facts["refused_by_lpar"])),
        ("opens refused by the hypervisor (EIO)", str(stage.facts["refused_by_hypervisor"])),
        ("page faults on mappings", str(sum(window.faults for window in windows))),
        ("remaps", str(sum(window.remaps for window in windows))),
        ("core removal to last window closed", f"{stage.facts['removal_us'] / 1000:.1f} ms"),
        ("checks", str(stage.checks)),
    ]
    for name, value in rows:
        stage.say(f"{name:42} {value:>12}")


STEPS = (
    credits_from_entitlement, work_on_every_file, refusals, core_removal, core_given_away, core_returned, summary,
)  # fmt: skip


def _open_round_robin(stage: Stage, clients: Sequence[Client], count: int) -> None:
    """Open `count` windows, one client after the other, so that everybody's are old and new alike."""
    for number in range(count):
        _open(stage, clients[number % len(clients)])


def _open(stage: Stage, client: Client) -> None:
    for attempt in client.ask(Open(count=1)).attempts:
        if attempt.errno:
            raise TourFailure(f"{client.lpar} refused a window with {attempt.errno}: {attempt.reason}")
    stage.add("opens", 1)


def _start_work(stage: Stage, clients: Sequence[Client]) -> None:
    """Have every client compress on; `Rest` is heard after each of its windows had a turn."""
    for client, share in zip(clients, stage.inputs.shares(len(clients)), strict=True):
        client.tell(Work(paths=share))


def _rest_and_report(stage: Stage, clients: Sequence[Client]) -> list[Reply]:
    """Stop the work and hear what each window did."""
    for reply in ask_all(clients, Rest()):
        stage.add("input_bytes", reply.input_bytes)
    return ask_all(clients, Report())


def _remaps(clients: Sequence[Client]) -> int:
    return sum(window.remaps for window in windows_of(ask_all(clients, Report())))


def _target(stage: Stage, lpar: str) -> int:
    status = next(status for status in stage.system().lpars if status.name == lpar)
    return pool(status, CreditType.DEFAULT).target


def _software(windows: Iterable[WindowReport], reason: FallbackReason) -> int:
    """Bytes that fell back to software for a reason."""
    return sum(window.software_bytes.get(reason, 0) for window in windows)


def _check_refused(stage: Stage, attempt: Attempt, errno: str, claim: str) -> None:
    stage.check(attempt.errno == errno, f"{claim} ({attempt.reason})", attempt.errno or "opened")


def _say_all(stage: Stage, lines: Sequence[str]) -> None:
    for line in lines:
        stage.say(line)


def _span(ids: Sequence[int]) -> str:
    return f"{ids[0]} ... {ids[-1]}" if ids else "none"
