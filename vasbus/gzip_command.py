"""`vasbus gzip` and `vasbus gunzip`: files through a partition's NX units, with gzip's manners."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import TransferSpeedColumn as Speed

from deploy.cluster import ClusterError
from lpar.client import ClientError, Lpar, NxGzip
from lpar.client.errors import DataError
from lpar.client.statistics import DirectionStatistics
from lpar.client.streams import OnProgress, compress_stream, decompress_stream
from protocol.codes import ExitCode
from protocol.message import LOCAL_NETWORK
from vasbus.gzip_files import FileRefused, Rules, check_input, input_path, output_path, replacing
from vasbus.output import errors
from vasbus.target import DEFAULT_DIR, Dir, Hmc, Network, client_keys, console, endpoint_on

STANDARD_STREAM = "-"
Files = Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="Files; - or none: standard input.")]
LparName = Annotated[str, typer.Option("--lpar", metavar="NAME", help="The partition; else the first that runs.")]
ToStdout = Annotated[bool, typer.Option("-c", "--stdout", help="Write to standard output, keep the files.")]
Keep = Annotated[bool, typer.Option("-k", "--keep", help="Keep the files.")]
Force = Annotated[bool, typer.Option("-f", "--force", help="Overwrite files, follow links, write to a terminal.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say what became of each file and who did the bytes.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(gzip)
    app.command()(gunzip)


def gzip(
    files: Files = None,
    decompress: Annotated[bool, typer.Option("-d", "--decompress", help="Do as gunzip.")] = False,
    to_stdout: ToStdout = False,
    keep: Keep = False,
    force: Force = False,
    verbose: Verbose = False,
    lpar: LparName = "",
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    network: Network = LOCAL_NETWORK,
) -> None:
    """Compress each FILE to FILE.gz on a partition's accelerator; every gzip reads the result."""
    _run(files, Rules(decompress, keep, force), to_stdout, verbose, _partition(folder, hmc, network, lpar), network)


def gunzip(
    files: Files = None,
    to_stdout: ToStdout = False,
    keep: Keep = False,
    force: Force = False,
    verbose: Verbose = False,
    lpar: LparName = "",
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    network: Network = LOCAL_NETWORK,
) -> None:
    """Decompress each FILE.gz to FILE, whoever wrote it. A damaged one is reported and left as it is."""
    _run(files, Rules(True, keep, force), to_stdout, verbose, _partition(folder, hmc, network, lpar), network)


def _run(
    files: list[str] | None, rules: Rules, to_stdout: bool, verbose: bool, place: tuple[str, str], network: str
) -> None:
    names = files or [STANDARD_STREAM]
    name, endpoint = place
    with _ending_on_signals(), Lpar(endpoint, network, keys=client_keys(name)) as partition, NxGzip(partition) as nx:
        with _progress() as progress:
            work = Work(nx, rules, to_stdout, verbose, progress)
            failures = sum(not work.file(name) for name in names)
        if verbose or errors.is_terminal:
            errors.print(f"{name}: {work.account()}", highlight=False, markup=False)
    if failures:
        raise typer.Exit(int(ExitCode.FAILED))


class Work:
    """One command's files, one after the other."""

    def __init__(self, nx: NxGzip, rules: Rules, to_stdout: bool, verbose: bool, progress: Progress) -> None:
        self.nx = nx
        self.rules = rules
        self.to_stdout = to_stdout
        self.verbose = verbose
        self.progress = progress

    def file(self, name: str) -> bool:
        """One file or stream; a failure is told with its name, and the next file has its turn."""
        try:
            self._streams() if name == STANDARD_STREAM else self._path(name)
        except BrokenPipeError:
            raise
        except (FileRefused, DataError, ClientError, OSError, TimeoutError) as failure:
            reason = failure.strerror if isinstance(failure, OSError) and failure.strerror else str(failure)
            shown = "standard input" if name == STANDARD_STREAM else name
            errors.print(f"vasbus: {shown}: {reason}", style="red", highlight=False, markup=False)
            return False
        return True

    def account(self) -> str:
        """Who did the bytes."""
        statistics = self.nx.statistics()
        return handlers(statistics.decompress if self.rules.decompress else statistics.compress)

    def _streams(self) -> None:
        if sys.stdin is None:
            raise FileRefused("it is closed; name a file or give it something to read")
        if not self.rules.force:
            if self.rules.decompress and sys.stdin.isatty():
                raise FileRefused("a terminal has no compressed data; name a file")
            if not self.rules.decompress and sys.stdout.isatty():
                raise FileRefused("compressed data does not go to a terminal; -f writes it all the same")
        with self._bar("standard input", _size(sys.stdin.fileno())) as told:
            self._convert(sys.stdin.buffer, sys.stdout.buffer, told, hold_back=True)

    def _path(self, name: str) -> None:
        path = input_path(name, self.rules)
        check_input(path, self.rules, replaced=not self.to_stdout)
        with path.open("rb") as source, self._bar(path.name, _size(source.fileno())) as told:
            if self.to_stdout:
                if not self.rules.decompress and not self.rules.force and sys.stdout.isatty():
                    raise FileRefused("compressed data does not go to a terminal; -f writes it all the same")
                self._convert(source, sys.stdout.buffer, told, hold_back=True)
                return
            target = output_path(path, self.rules)
            with replacing(path, target, self.rules) as file:
                read_bytes, written_bytes = self._convert(source, file, told, hold_back=False)
        if self.verbose:
            raw_bytes, packed_bytes = (
                (written_bytes, read_bytes) if self.rules.decompress else (read_bytes, written_bytes)
            )
            verb = "made" if self.rules.keep else "replaced by"
            saved = f"{1 - packed_bytes / raw_bytes:.1%} saved" if raw_bytes else "empty"
            errors.print(f"{path}: {saved}, {verb} {target}", highlight=False, markup=False)

    def _convert(self, source: IO[bytes], target: IO[bytes], told: OnProgress, *, hold_back: bool) -> tuple[int, int]:
        """All of one stream; bytes read and written."""
        read_bytes = 0

        def note(offset: int) -> None:
            nonlocal read_bytes
            read_bytes = offset
            told(offset)

        if self.rules.decompress:
            written_bytes = decompress_stream(self.nx, source, target, note, hold_back=hold_back)
        else:
            written_bytes = compress_stream(self.nx, source, target, note)
        target.flush()
        return read_bytes, written_bytes

    @contextmanager
    def _bar(self, name: str, total: int | None) -> Iterator[OnProgress]:
        """A progress bar for one file; it goes when the file is done."""
        bar: TaskID = self.progress.add_task(name, total=total)
        try:
            yield lambda offset: self.progress.update(bar, completed=offset)
        finally:
            self.progress.remove_task(bar)


def handlers(side: DirectionStatistics) -> str:
    """In words: how much went through NX units, how much through software and why."""
    software = [
        f"{amount:,} in software ({reason.value}: {reason.meaning})"
        for reason, amount in side.fallback.items()
        if amount
    ]
    return ", ".join([f"{side.nx_bytes:,} of {side.bytes_in:,} bytes on NX units", *software])


def _progress() -> Progress:
    """Bars on standard error, where that is a terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), Speed())
    return Progress(*columns, TimeRemainingColumn(), console=errors, transient=True, disable=not errors.is_terminal)


def _size(descriptor: int) -> int | None:
    """A file's length; None where it has none."""
    with suppress(OSError):
        return os.fstat(descriptor).st_size or None
    return None


def _partition(folder: Path, hmc: str, network: str, name: str) -> tuple[str, str]:
    """The named partition, or the first that runs, and where its kernel listens. Raises ClusterError."""
    with console(folder, hmc, network) as connection:
        lpars = connection.system().lpars
    running = [lpar for lpar in lpars if lpar.state == "running"]
    near = [lpar for lpar in running if network in lpar.endpoints]
    chosen = next((lpar for lpar in (lpars if name else near or running) if name in ("", lpar.name)), None)
    if chosen is None:
        known = ", ".join(f"{lpar.name} ({lpar.state})" for lpar in lpars)
        raise ClusterError(f"no partition {name!r}; there are {known}" if name else f"no partition runs: {known}")
    return chosen.name, endpoint_on(network, chosen.name, chosen.endpoints, chosen.state)


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """SIGTERM, SIGHUP and Ctrl-C end the command with 128 + their number; what is half written goes.

    They all come as an interrupt, which the client library takes only where it may be interrupted. Where Ctrl-C is
    ignored, as in a shell's background jobs, it is blocked: the library defers Python's own handler only.
    """
    came = signal.SIGINT

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = signal.Signals(number)
        interrupt = signal.getsignal(signal.SIGINT)
        assert callable(interrupt), "the block has a handler"
        interrupt(signal.SIGINT, frame)

    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(128 + came) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
