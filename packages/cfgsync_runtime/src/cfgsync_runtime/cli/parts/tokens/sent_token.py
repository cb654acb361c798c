"""The token that a command sends, and what is said when the network can read it on its way."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress

from cfgsync_core import ServerUrl
from cfgsync_core.node import USE_TLS
from cfgsync_core.text import plain

from ....node.memory.token_file import read_token


def token_for(server: ServerUrl, token_file: str | None) -> str | None:
    """The token in a file, None for no file. One that every user may replace, or that will be sent
    unencrypted, is a line on stderr. Raises `InputError`."""
    if token_file is None:
        return None
    token = read_token(token_file)
    with suppress(OSError):  # it has gone since
        if os.stat(token_file).st_mode & stat.S_IWOTH:
            _warn(f"every user of this machine may replace {token_file}; run: chmod 600 {token_file}")
    if readers := _in_the_clear(server):
        at = " and ".join(map(str, readers))
        _warn(f"the token is sent unencrypted to {at}: whoever reads the network has it too; use https")
    return token


def _warn(sentence: str) -> None:
    print(f"warning: {plain(sentence, None)}\n", end="", file=sys.stderr, flush=True)


def use_tls(server: ServerUrl, token: str | None) -> str:
    """The hint for a port that speaks TLS only, and was asked without it."""
    if token is None or not _in_the_clear(server):
        return USE_TLS
    return f"{USE_TLS}; the token has been sent unencrypted: make another one (cfgsync token create), and revoke this one"


def _in_the_clear(server: ServerUrl) -> Sequence[ServerUrl]:
    """Those of its servers that get everything unencrypted over a network."""
    plain = [one for one in server.each if one.scheme == "http"]
    if not plain:
        return ()
    from ....access.insecure import is_loopback  # a fetch without a token, or with TLS, does not load it

    return [one for one in plain if not is_loopback(one.host)]
