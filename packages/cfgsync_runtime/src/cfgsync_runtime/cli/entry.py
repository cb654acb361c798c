"""The command line as a process: however it ends, it shows no traceback, and reports an output that is not whole.

Ctrl-C ends it with 130 from its first line on, also while a command is still being loaded. A line on stderr that cannot
be written is dropped. A reader of stdout that leaves (`cfgsync … | head`) ends it with 1, without a word; an output that
cannot be written is said; but `fetch` ends as if its output had been written.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

INTERRUPTED: Final = 130
COMPLETION: Final = "_CFGSYNC_COMPLETE"
"""A variable by which a shell asks for completions."""
_OUTPUT_LOST: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and end the process with its exit code. Every failure is two lines on stderr."""
    owns = arguments is None  # a test that gives arguments lives on
    try:
        if owns:
            from .parts.unfailing_stream import open_standard_descriptors, unfailing

            open_standard_descriptors()
            _hear_sigterm()
            _never_fail_to_encode()
            sys.stderr = unfailing(sys.stderr, 2)
            sys.stdout = sys.stdout or unfailing(None, 1)
        code, is_over = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        code, is_over = INTERRUPTED, owns
    except BrokenPipeError:
        code, is_over = 1, owns
    except OSError as error:
        if error.errno not in _OUTPUT_LOST or error.filename is not None:
            raise
        from .parts.messages import fail

        code, is_over = fail(1, f"the output cannot be written: {error.strerror}", "write it elsewhere"), owns
    if is_over and owns:
        with suppress(OSError, AttributeError):
            sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> tuple[int, bool]:
    """The exit code, and whether the process may end at once."""
    from .parts.messages import Over, not_installed

    try:
        code = _plain(sys.argv[1:] if arguments is None else arguments)
        if code is None:
            from .app import run

            code = run(arguments)
    except ModuleNotFoundError as error:
        code = not_installed(error)
    except SystemExit as ended:  # of the library, as for a completion script
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return int(code), isinstance(code, Over)


def _plain(words: Sequence[str]) -> int | None:
    """The exit code of a `fetch` or `serve` whose line is plain; None for any other line. It loads no typer (ADR 0028)."""
    if COMPLETION in os.environ or not words or words[0] not in ("fetch", "serve"):
        return None
    return (_plain_fetch if words[0] == "fetch" else _plain_serve)(words[1:])


def _plain_serve(words: Sequence[str]) -> int | None:
    from ..process.garbage import collection_paused

    with collection_paused():
        from .parts.serve.plain_serve import plain_flags

        flags = plain_flags(words)
        if flags is None:
            return None
        from .parts.serve.server_run import run_server
    return run_server(flags)


def _plain_fetch(words: Sequence[str]) -> int | None:
    from cfgsync_artifacts import CfgsyncError

    from ..process.garbage import collection_paused
    from .parts.messages import failed, note

    try:
        with collection_paused(), _absent("typing_extensions", "ssl"):
            from .parts.fetch.arguments import FetchArguments
            from .parts.plain_line import read_plain

            read = read_plain(FetchArguments, "fetch", words, note)
            if read is None:
                return None
            from .parts.fetch.node_start import start_node
        return start_node(read)
    except CfgsyncError as error:
        return failed(error)


@contextmanager
def _absent(*names: str) -> Iterator[None]:
    """Imports inside do not find these modules. msgspec and http.client load them only because they are there, which
    would be a fifth of a start: `typing` has the same, and a connection with TLS loads `ssl` when it is made."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: documented, and unknown to typeshed
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _hear_sigterm() -> None:
    """The kernel drops a signal to PID 1 that has no handler: there, SIGTERM gets one that does what it does elsewhere."""
    if os.getpid() == 1 and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))


def _never_fail_to_encode() -> None:
    """Print `?` for what a terminal without UTF-8 cannot show."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
