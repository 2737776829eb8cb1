"""`vasbus keys`: make the CURVE keys of a system, hand out what one process needs of them, change and revoke them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protocol.key_changes import retire_keys, revoke_keys, rotate_key
from protocol.key_files import PUBLIC_FILE, export_keys, init_keys
from protocol.keys import Principal, principals_of
from protocol.system import SettingsError, parse_system
from vasbus.output import out, print_json
from vasbus.target import AsJson

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
    try:
        text = system.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the system file {system}: {error}") from None
    made = init_keys(folder, principals_of(parse_system(text, str(system))))
    if as_json:
        print_json({"made": [str(owner) for owner in made.new], "kept": [str(owner) for owner in made.kept]})
        return
    kept = f", kept {len(made.kept)} that were there" if made.kept else ""
    out.print(f"made {len(made.new)} keys in {folder}{kept}; public keys are in {PUBLIC_FILE}", highlight=False)


@app.command()
def export(
    folder: Folder,
    identity: Annotated[
        str, typer.Argument(metavar="IDENTITY", help="Whose keys: client:lp1, hmc, observer, ...; several with commas.")
    ],
    file: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write.")],
    replace: Annotated[bool, typer.Option("--replace", help="Write it in place of one that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one file with an identity's secret key and the public keys of those it talks with."""
    owners = tuple(dict.fromkeys(Principal.parse(word) for word in identity.split(",")))
    export_keys(folder, owners, file, replace=replace)
    if as_json:
        print_json({"file": str(file), "identities": [str(owner) for owner in owners]})
    else:
        out.print(f"{file}: keys of {', '.join(map(str, owners))}; keep it as you keep a password", highlight=False)


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
