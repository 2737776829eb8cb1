"""`vasbus keys`: make the CURVE keys of a system, hand out what one process needs of them, change and revoke them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from protocol.key_changes import retire_keys, revoke_keys, rotate_key
from protocol.key_files import PUBLIC_FILE, Made, export_keys, exported_text, init_keys, load_keys
from protocol.keys import Principal, principals_of
from protocol.system import SettingsError, parse_system
from vasbus.keys_deal import deal_keys, parse_owners, parse_targets
from vasbus.output import out, print_json
from vasbus.target import AsJson

STANDARD_OUTPUT = "-"
app = typer.Typer(help="Keys for tcp: who may connect to what.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The key folder.")]
Identity = Annotated[str, typer.Argument(metavar="IDENTITY", help="Whose key: hypervisor, nx:nx0, client:lp1, ...")]


@app.command()
def init(
    folder: Folder,
    system: Annotated[Path, typer.Option("--system", "-f", help="The system file.")],
    as_json: AsJson = False,
) -> None:
    """Make the keys of everybody in a system. What is there is kept, so it may be repeated when the system grows."""
    made = _init(folder, system)
    if as_json:
        print_json({"made": [str(owner) for owner in made.new], "kept": [str(owner) for owner in made.kept]})
        return
    kept = f", kept {len(made.kept)} that were there" if made.kept else ""
    out.print(f"made {len(made.new)} keys in {folder}{kept}; public keys are in {PUBLIC_FILE}", highlight=False)


def _init(folder: Path, system: Path) -> Made:
    """The keys of everybody in a system file. Raises SettingsError, KeysError, OSError."""
    try:
        text = system.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the system file {system}: {error}") from None
    return init_keys(folder, principals_of(parse_system(text, str(system))))


@app.command()
def export(
    folder: Folder,
    identity: Annotated[
        str, typer.Argument(metavar="IDENTITY", help="Whose keys: client:lp1, hmc, observer, ...; several with commas.")
    ],
    file: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write; - is standard output.")],
    replace: Annotated[bool, typer.Option("--replace", help="Write it in place of one that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one file with an identity's secret key and the public keys of those it talks with."""
    owners = parse_owners(identity)
    if str(file) == STANDARD_OUTPUT:
        if as_json:
            raise typer.BadParameter("expected the name of a file: standard output has the keys", param_hint="OUT")
        sys.stdout.write(exported_text(load_keys(folder), owners))
        return
    export_keys(folder, owners, file, replace=replace)
    if as_json:
        print_json({"file": str(file), "identities": [str(owner) for owner in owners]})
    else:
        out.print(f"{file}: keys of {', '.join(map(str, owners))}; keep it as you keep a password", highlight=False)


@app.command()
def deal(
    folder: Folder,
    targets: Annotated[
        list[str],
        typer.Argument(metavar="OWNERS=FILE...", help="Whose keys go where: hypervisor,observer=own.keys, ..."),
    ],
    system: Annotated[
        Path | None, typer.Option("--system", "-f", help="Make the keys that a system lacks first, as `init` does.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write each process's file, as `export` does; one that is up to date is left alone. Safe to repeat."""
    wanted = parse_targets(targets)
    made = 0 if system is None else len(_init(folder, system).new)
    dealt = deal_keys(folder, wanted)
    if as_json:
        files = {"written": [str(file) for file in dealt.written], "kept": [str(file) for file in dealt.kept]}
        print_json({"made": made, **files})
        return
    new = f"made {made} keys; " if made else ""
    out.print(f"{new}{len(dealt.written)} key files written, {len(dealt.kept)} were up to date", highlight=False)


@app.command()
def rotate(folder: Folder, identity: Identity, as_json: AsJson = False) -> None:
    """Make an identity a new key; its old one is taken too, until `revoke --old`. docs/security.md has the steps."""
    owner = Principal.parse(identity)
    rotate_key(folder, owner)
    if as_json:
        print_json({"identity": str(owner), "rotated": True})
        return
    out.print(
        f"{owner} has a new key, and its old one is still taken. Export the files of those it talks with again "
        "(--replace), then its own, restart it, and end with `vasbus keys revoke --old`",
        highlight=False,
    )


@app.command()
def revoke(
    folder: Folder,
    identity: Identity,
    old: Annotated[bool, typer.Option("--old", help="Only keys from before its present one.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take an identity's keys out of the public list, so that they are taken no more; `init` makes it a new one."""
    owner = Principal.parse(identity)
    gone = retire_keys(folder, owner) if old else revoke_keys(folder, owner)
    if as_json:
        print_json({"identity": str(owner), "revoked": gone})
        return
    what = f"the keys of {owner} from before" if old else f"the keys of {owner}"
    out.print(
        f"taken out of {PUBLIC_FILE}: {what}. Processes that use this folder refuse them from now on, those with an "
        "exported file when that is exported again (--replace)",
        highlight=False,
    )
