"""`cfgsync-server CONFIG`: the original's server, by its file and exit codes; it listens on 127.0.0.1 by default."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from cfgsync_artifacts import CfgsyncError

from ..parts.messages import fail, not_installed, note

USAGE: Final = """\
Usage: cfgsync-server CONFIG

Serve what the server file CONFIG names, as the original's, until SIGTERM. What `cfgsync serve --config CONFIG` takes
from the environment (CFGSYNC_SERVE_HOST, CFGSYNC_STORE, …) is taken here too. Exit codes: 0 stopped, 1 failed, 2 usage.
"""


def main() -> None:
    """Run, and end the process with its exit code."""
    from ..parts.unfailing_stream import make_stdout_unfailing, open_standard_descriptors, unfailing

    if os.getpid() == 1:  # the kernel drops a signal to PID 1 that has no handler
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    open_standard_descriptors()
    sys.stderr = unfailing(sys.stderr, 2)
    sys.stdout = sys.stdout or unfailing(None, 1)
    make_stdout_unfailing()
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    with suppress(OSError, AttributeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # as `cfgsync serve` ends


def run(arguments: Sequence[str]) -> int:
    """The whole command; its exit code. A failure is two lines on stderr, the first with `Error: `."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(USAGE, end="")
        return 0
    if len(arguments) != 1 or not arguments[0] or arguments[0].startswith("-"):
        what = f"it was given {' '.join(arguments)[:100]!r}" if arguments else "none was given"
        return fail(2, f"Error: cfgsync-server takes one server file, {what}", "Usage: cfgsync-server CONFIG")
    # imported here: --help needs no pydantic and no aiohttp
    from ...access.insecure import is_loopback

    try:
        from ...settings.serve_settings import ServeSettings
        from ...settings.settings_reader import read_serve_settings
        from ..parts.serve.server_run import serve
    except ModuleNotFoundError as error:
        return not_installed(error, "Error: ")

    (file,) = arguments

    def read() -> ServeSettings:
        settings = read_serve_settings({"config": file}, say=note)
        if "expose_errors" not in settings.model_fields_set and is_loopback(settings.host):
            settings = settings.model_copy(update={"expose_errors": True})  # as the original's bodies
        return settings

    try:
        settings = read()
        if "host" not in settings.model_fields_set:
            print(
                f"note: only this machine can reach this server; the original listened on every address:"
                f" add `host: 0.0.0.0` to {file}",
                file=sys.stderr,
                flush=True,
            )
        if settings.requires_tokens and not settings.allow_anonymous:
            note(
                f"nodes need a join token; the original's clients have none: add `allow_anonymous: true` to {file}"
            )
        return serve(settings, read)
    except CfgsyncError as error:
        return fail(1, f"Error: {error}", getattr(error, "hint", ""))
