"""`cfgsync bundle …`: check a bundle file, sign it, and verify its signatures; make a pair of keys."""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from cfgsync_artifacts import replace_file
from cfgsync_core import BundleConfigSource, IntegrityError, NodeArtifactsBundle
from cfgsync_core.text import counted

from ..access.signatures import Signer, Verifier, changed_since_signed, make_key_pair
from ..errors import InputError
from ..settings.bundle_file import load_bundle
from .app import PLAIN
from .parts.messages import fail

app = typer.Typer(no_args_is_help=True, **PLAIN)

File = Annotated[str, typer.Argument(metavar="FILE", help="The bundle.", show_default=False)]

_MARK: Final = "# written by `cfgsync bundle sign`: sign again after each change"
_BLOCK: Final = re.compile(
    rf"^{re.escape(_MARK)}\nrevision: \d+\nsignatures:\n(?:  \S+: \S+\n)*", re.MULTILINE
)


@app.callback()
def group() -> None:
    """Check, sign or verify a bundle, the file that `cfgsync serve --bundle` serves.

    \b
    Example:
      cfgsync bundle keygen signing.key
      cfgsync bundle sign bundle.yaml --key signing.key
    """


@app.command(short_help="Read a bundle as a server does; change nothing.")
def check(file: File) -> None:
    """Read a bundle as a server does, and say what is in it and whether it has changed since it was signed.

    \b
    Example:
      cfgsync bundle check bundle.yaml

    Exit codes: 0 whole, 1 no bundle, or changed since it was signed.
    """
    bundle = _loaded(file)
    digests = digests_of(bundle)
    if bundle.signatures and (changed := changed_since_signed(bundle.signatures, digests)):
        names = ", ".join(changed[:8])
        raise typer.Exit(
            fail(1, f"{file}: changed since it was signed: {names}", "sign it again: cfgsync bundle sign")
        )
    signed = f"signed as revision {bundle.revision}" if bundle.signatures else "not signed"
    print(f"{file}: {counted(len(digests), 'node')}, {signed}", flush=True)


@app.command(short_help="Write a signature for each node into a bundle.")
def sign(
    file: File,
    key: Annotated[
        str, typer.Option(metavar="KEY", help="The private key; `cfgsync bundle keygen` makes one.")
    ],
    revision: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**18 - 1,
            metavar="N",
            help="A node takes no older revision than it has seen.  [default: the time in seconds, or one more than before]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a revision and a signature for each node into a bundle. The server passes them on, and needs no key.

    \b
    Examples:
      cfgsync bundle sign bundle.yaml --key signing.key
      cfgsync bundle sign bundle.yaml --key signing.key --revision 7

    Sign again after each change, then send the server SIGHUP. Exit codes: 0 signed, 1 the disk refuses, 2 the bundle or the key cannot be
    used.
    """
    bundle = load_bundle(file)
    if revision is not None and revision < bundle.revision:
        raise InputError(
            f"--revision {revision} is older than revision {bundle.revision}, as which {file} is signed: nodes that have seen that"
            " one refuse it",
            "leave --revision out, or give a later one; for nodes that have seen neither, remove the bundle's revision first",
        )
    number = revision or max(int(time.time()), bundle.revision + 1)
    signer = Signer(key)
    digests = digests_of(bundle)
    signatures = {name: signer(name, str(number), digest) for name, digest in digests.items()}
    path = os.path.realpath(file)
    written = _with_signatures(Path(path).read_bytes().decode(), number, signatures)
    with tempfile.TemporaryDirectory() as aside:
        trial = Path(aside, "bundle")
        trial.write_bytes(written.encode())
        try:
            made = load_bundle(trial)
        except InputError:
            made = None
    if made is None or digests_of(made) != digests or made.signatures != signatures:
        raise InputError(
            f"{file}: the signatures cannot be added at its end",
            "write `nodes:` at the beginning of a line, and remove `revision` and `signatures` that are not its last lines",
        )
    replace_file(path, written.encode(), stat.S_IMODE(os.stat(path).st_mode))
    print(
        f"{file}: signed as revision {number} for {counted(len(digests), 'node')} by key {signer.key_id[:16]}",
        flush=True,
    )


@app.command(short_help="Verify the signatures in a bundle.")
def verify(
    file: File,
    verify_key: Annotated[
        list[str], typer.Option(metavar="FILE", help="A public key to trust; may be repeated.")
    ],
) -> None:
    """Verify that each node's files are signed by a key, as `cfgsync fetch --verify-key` does.

    \b
    Example:
      cfgsync bundle verify bundle.yaml --verify-key signing.key.pub

    Exit codes: 0 every node's files are signed, 1 they are not, 2 a key cannot be used.
    """
    verifier = Verifier(verify_key)
    bundle = _loaded(file)
    for name, digest in digests_of(bundle).items():
        try:
            verifier(bundle.signatures.get(name), name, None, digest)
        except IntegrityError as error:
            raise typer.Exit(
                fail(1, f"{file}: node {name}: {error}", "sign it again: cfgsync bundle sign")
            ) from error
    print(
        f"{file}: {counted(len(bundle.nodes), 'node')}, every one signed as revision {bundle.revision}",
        flush=True,
    )


@app.command(short_help="Make a private and a public key.")
def keygen(
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="The private key's file; KEY.pub is the public one.")
    ],
) -> None:
    """Make an Ed25519 key pair: KEY (0600) signs, KEY.pub goes to the nodes. Nothing is overwritten.

    \b
    Example:
      cfgsync bundle keygen signing.key

    Exit codes: 0 made, 1 the disk refuses, 2 the file is there already.
    """
    name = make_key_pair(key)
    print(f"made {key} (keep it secret) and {key}.pub (for the nodes): key {name[:16]}", flush=True)


def digests_of(bundle: NodeArtifactsBundle) -> dict[str, str]:
    """The digest of each node's files. Raises `InvalidBundle`."""
    return BundleConfigSource(bundle, "").digests


def _loaded(file: str) -> NodeArtifactsBundle:
    try:
        return load_bundle(file)
    except InputError as error:
        raise typer.Exit(fail(1, str(error), error.hint)) from error


def _with_signatures(text: str, revision: int, signatures: dict[str, str]) -> str:
    """The bundle's text with these signatures instead of older ones, comments and all else kept."""
    if text.lstrip().startswith("{"):
        try:
            return (
                json.dumps({**json.loads(text), "revision": revision, "signatures": signatures}, indent=2)
                + "\n"
            )
        except ValueError:
            pass  # YAML that begins with a brace
    block = "".join(f"  {name}: {signature}\n" for name, signature in signatures.items())
    end = "" if text.endswith("\n") else "\n"
    return f"{_BLOCK.sub('', text)}{end}{_MARK}\nrevision: {revision}\nsignatures:\n{block}"
