"""Where a node remembers, when no --state says it: one folder for each server and name, below a root of the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256

from cfgsync_artifacts import DiskError, Placed, make_directories, replace_files
from cfgsync_core import ServerUrl

_PRIVATE = 0o600


def state_directory(
    server: str,
    identifier: str,
    say: Callable[[str], None] = lambda _: None,
    environ: Mapping[str, str] = os.environ,
) -> str:
    """`ROOT/cfgsync/<first 16 hex of SHA-256(normalised server URL, NUL, identifier)>`. The root is `$STATE_DIRECTORY`,
    else `$XDG_STATE_HOME`, else `~/.local/state`.

    Of several servers, with commas between them, the first one names the folder. A folder of another of them, or that an older
    version made, under the URL as it was given or another root, is adopted. If no such folder exists, `say`
    gets a line about the folder of the same identifier and another server, of several the one that was used last. Raises `DiskError` when there is no root.
    """
    first, *others = map(str, ServerUrl.parse_several(server).each)
    at = first
    bases = [os.path.join(root, "cfgsync") for root in _roots(environ)]
    if not bases:
        raise DiskError(
            "there is no place for the node's state: neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set",
            "give --state DIR",
        )
    wanted, *older = [
        os.path.join(base, _name(url, identifier)) for base in bases for url in (at, server, *others)
    ]
    found = next((one for one in (wanted, *older) if os.path.isdir(one)), None)
    if found is None:
        for other, folder in _elsewhere(bases, identifier)[-1:]:
            say(
                f"this machine knows {identifier} at {other} ({folder}), but not at {at}:"
                f" if that is the same server, give --state {folder}"
            )
    elif found != wanted:
        found = _moved(found, wanted)
    directory = found or wanted
    _label(directory, at, identifier)
    return directory


def _roots(environ: Mapping[str, str]) -> list[str]:
    home = environ.get("HOME") or os.path.expanduser("~")  # the second reads the passwd entry
    given = (
        environ.get("STATE_DIRECTORY", "").partition(":")[0],
        environ.get("XDG_STATE_HOME", ""),
        os.path.join(home, ".local", "state"),
    )
    return list(
        dict.fromkeys(root for root in given if root.startswith("/"))
    )  # XDG: a relative one is ignored


def _name(url: str, identifier: str) -> str:
    return sha256(f"{url}\0{identifier}".encode()).hexdigest()[:16]


def _moved(found: str, wanted: str) -> str:
    """The folder's new place; its old one where it cannot be moved."""
    try:
        make_directories(os.path.dirname(wanted), 0o700)
        os.rename(found, wanted)
    except OSError:
        return found
    return wanted


def _elsewhere(bases: list[str], identifier: str) -> list[tuple[str, str]]:
    """The servers that have a folder for this identifier, and those folders; one that had files and was used last at the end."""
    found: list[tuple[str, str]] = []
    for base in bases:
        with suppress(OSError):
            folders = [os.path.join(base, name) for name in sorted(os.listdir(base))]
            mine = [folder for folder in folders if _read(folder, "identifier") == identifier]
            found += [(url, folder) for folder in mine if (url := _read(folder, "server"))]
    return sorted(found, key=lambda one: (_changed(one[1], "seen"), _changed(one[1], "secret")))


def _changed(folder: str, name: str) -> float:
    with suppress(OSError):
        return os.stat(os.path.join(folder, name)).st_mtime
    return 0.0


def _read(folder: str, name: str) -> str:
    with suppress(OSError, UnicodeDecodeError), open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read(4096).removesuffix("\n")
    return ""


def _label(directory: str, server: str, identifier: str) -> None:
    """Write into the folder to which server and identifier it belongs. A refusal of the disk is reported later, when the
    node's secret is written."""
    lines = {"server": server, "identifier": identifier}
    if all(_read(directory, name) == line for name, line in lines.items()):
        return
    with suppress(OSError, DiskError):
        make_directories(directory, 0o700)
        replace_files(
            [Placed(directory, (name,), (line + "\n").encode(), _PRIVATE) for name, line in lines.items()]
        )
