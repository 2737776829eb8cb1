"""`vasbus keys`: make the CURVE keys of a system, and hand out what one process needs of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protocol.key_files import PUBLIC_FILE, export_keys, init_keys
from protocol.keys import Principal, principals_of
from protocol.system import SettingsError, parse_system
from vasbus.output import out, print_json
from vasbus.target import AsJson

app = typer.Typer(help="Keys for tcp: who may connect to what.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The key folder.")]


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
    file: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write; it must not exist.")],
    as_json: AsJson = False,
) -> None:
    """Write one file with an identity's secret key and the public keys of those it talks with."""
    owners = tuple(dict.fromkeys(Principal.parse(word) for word in identity.split(",")))
    export_keys(folder, owners, file)
    if as_json:
        print_json({"file": str(file), "identities": [str(owner) for owner in owners]})
    else:
        out.print(f"{file}: keys of {', '.join(map(str, owners))}; keep it as you keep a password", highlight=False)
