"""What `cfgsync fetch` could not do with its places, their owner or its command is refused before a server is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import msgspec

from cfgsync_artifacts import Owner, may_give

from ....node.outputs import ArtifactOutputMap, OutputDirectory
from ..messages import fail
from .flags import UnusableFlag

_NO_ID: Final = 2**32 - 1  # to the system it means "leave it"


def owned(
    places: OutputDirectory | ArtifactOutputMap, chown: str | None, keep: int | None
) -> OutputDirectory | ArtifactOutputMap:
    """The places with what `--chown` and `--keep` say. Raises `UnusableFlag`."""
    if isinstance(places, OutputDirectory):
        kept = places.keep if keep is None else keep
        return msgspec.structs.replace(places, owner=owner_of(chown), keep=kept)
    if keep is not None:
        raise UnusableFlag("it is for --out only", "--keep")
    return msgspec.structs.replace(places, owner=owner_of(chown))


def shown(places: OutputDirectory | ArtifactOutputMap) -> str:
    """The places in a sentence."""
    if isinstance(places, OutputDirectory):
        return os.path.abspath(places.directory)
    return ", ".join(places.unsplit)


def owner_of(text: str | None) -> Owner:
    """`USER`, `USER:GROUP`, `:GROUP`, or `USER:` with the group that USER logs in with; names or numbers. Raises
    `UnusableFlag` for one that does not exist, or that this process may not give a file to."""
    if text is None:
        return Owner()
    user, colon, group = text.partition(":")
    if not user and not group:
        raise UnusableFlag(f"{text!r} is not USER or USER:GROUP", "--chown")
    owner = Owner(_user(user) if user else -1, _login_group(user) if colon and not group else _group(group))
    if not may_give(owner):
        raise UnusableFlag(
            f"this process may not give files to {text}: run it as root, or with the capability CAP_CHOWN",
            "--chown",
        )
    return owner


def refuse_places(places: OutputDirectory | ArtifactOutputMap) -> None:
    """Raise `UnusableFlag` for a directory that is a file, and for a target that is no file's name or in no directory."""
    if isinstance(places, OutputDirectory):
        above = places.directory
        while above and not os.path.lexists(above):
            above = os.path.dirname(above.rstrip("/"))
        if above and not os.path.isdir(above):
            raise UnusableFlag(f"{above} is not a directory: name another", "--out")
        return
    for text in places.unsplit:
        refusals = [_refusal(target) for target in _targets(text)]
        if all(refusals):
            raise UnusableFlag(f"{refusals[0]}", "--route")


def command_refused(start: list[str], places: OutputDirectory | ArtifactOutputMap) -> int:
    """127 when there is no such command, 126 when it cannot be run, as a shell, and 0 when it can; one that comes with
    the files can."""
    name = start[0]
    found = [name] if "/" in name else [os.path.join(at, name) for at in os.get_exec_path()]
    if any(_is_delivered(path, places) or _is_program(path) for path in found):
        return 0
    if any(os.path.exists(path) for path in found):
        return fail(126, f"{name}: permission denied", "nothing was written; name a program that may be run")
    return fail(127, f"{name}: command not found", "nothing was written; name a command that is in PATH")


def _targets(text: str) -> Iterator[str]:
    """What may be the TARGET of `PATH=TARGET`: either may hold a `=`."""
    for at, character in enumerate(text):
        if character == "=":
            yield text[at + 1 :]


def _refusal(target: str) -> str | None:
    directory, name = os.path.split(target)
    if name in ("", ".", "..") or os.path.isdir(target):
        return f"{target!r} is a directory: TARGET is the name of the file"
    if not os.path.isdir(directory or "."):
        return f"there is no directory {directory}: make it first"
    return None


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _is_delivered(path: str, places: OutputDirectory | ArtifactOutputMap) -> bool:
    """True for a file that the payload may bring."""
    path = os.path.realpath(path)
    if isinstance(places, OutputDirectory):
        return path.startswith(os.path.join(os.path.realpath(places.directory), ""))
    targets = (target for text in places.unsplit for target in _targets(text))
    return any(path == os.path.realpath(target) for target in targets)


def _user(name: str) -> int:
    import pwd

    try:
        return _number(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UnusableFlag(f"there is no user {name!r} on this machine", "--chown") from None


def _login_group(user: str) -> int:
    import pwd

    try:
        return (pwd.getpwuid(_number(user)) if user.isdecimal() else pwd.getpwnam(user)).pw_gid
    except KeyError:
        raise UnusableFlag(
            f"there is no user {user!r} on this machine, so name the group", "--chown"
        ) from None


def _group(name: str) -> int:
    import grp

    try:
        return -1 if not name else _number(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UnusableFlag(f"there is no group {name!r} on this machine", "--chown") from None


def _number(text: str) -> int:
    """Raises `KeyError` for a number that no user and no group has."""
    number = int(text)
    if number >= _NO_ID:
        raise KeyError(text)
    return number
