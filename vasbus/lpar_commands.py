"""`vasbus lpar`: on a partition."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from deploy.cluster import ClusterError
from hmc.connection import Console
from lpar.client import Lpar
from protocol.message import LOCAL_NETWORK
from vasbus.exec.options_before_dashes import OptionsBeforeDashes
from vasbus.exec.program import OnPartition, command_line, execute, help_text
from vasbus.exec.programs import ON_PARTITION
from vasbus.output import out, print_json
from vasbus.target import DEFAULT_DIR, AsJson, Dir, Hmc, Network, client_keys, console, endpoint_on

app = typer.Typer(help="On a partition: its files (sysfs, procfs) and commands.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="LPAR", help="A partition.")]
FilePath = Annotated[str, typer.Argument(metavar="PATH", help="A path inside the partition.")]
Words = Annotated[list[str], typer.Argument(metavar="COMMAND...", help="A command and its options.")]


@app.command()
def cat(
    name: Name,
    path: FilePath,
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    network: Network = LOCAL_NETWORK,
    as_json: AsJson = False,
) -> None:
    """Print a file of the partition."""
    with _partition(folder, hmc, network, name) as partition:
        text = partition.read(path)
    if as_json:
        print_json({"lpar": name, "path": path, "text": text})
    else:
        sys.stdout.write(text)


@app.command()
def write(
    name: Name,
    path: FilePath,
    text: Annotated[str, typer.Argument(help="What to write.")],
    folder: Dir = DEFAULT_DIR,
    hmc: Hmc = "",
    network: Network = LOCAL_NETWORK,
    as_json: AsJson = False,
) -> None:
    """Write a file of the partition."""
    with _partition(folder, hmc, network, name) as partition:
        partition.write(path, text)
    if as_json:
        print_json({"lpar": name, "path": path, "written": len(text)})
    else:
        out.print(f"{name}: wrote {len(text)} characters to {path}", highlight=False)


@app.command(
    name="exec",
    cls=OptionsBeforeDashes,
    help=help_text("on the partition", ON_PARTITION),
    context_settings={"allow_interspersed_args": False},
)
def execute_(
    name: Name, words: Words, folder: Dir = DEFAULT_DIR, hmc: Hmc = "", network: Network = LOCAL_NETWORK
) -> None:
    line = command_line(words)
    with console(folder, hmc, network) as connection, _started(connection, network, name) as partition:
        place = OnPartition(name, partition, connection, sys.stdout, sys.stderr)
        code = execute(ON_PARTITION, place, line)
    raise typer.Exit(code)


def _partition(folder: Path, hmc: str, network: str, name: str) -> Lpar:
    """A process on the named partition. Raises ClusterError where it is unknown, not running or not reached."""
    with console(folder, hmc, network) as connection:
        return _started(connection, network, name)


def _started(connection: Console, network: str, name: str) -> Lpar:
    """A process on the partition that the console knows by this name. Raises ClusterError."""
    lpars = {lpar.name: lpar for lpar in connection.system().lpars}
    if name not in lpars:
        raise ClusterError(f"the system has no partition {name!r}; it has {', '.join(lpars)}")
    endpoint = endpoint_on(network, name, lpars[name].endpoints, lpars[name].state)
    return Lpar(endpoint, network, keys=client_keys(name))
