"""A document is followed: each newest value is printed, or given to a command, one at a time until it has succeeded."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cfgsync_core.text import cause, plain

from ....errors import InputError
from ....program.environment import for_programs
from ..messages import NoAnswer, note
from .client import DocumentClient, Place
from .words import Shown

HOLD_SECONDS: Final = 20
ABSENT_SECONDS: Final = 1.0
"""Between two looks for a document that is absent: only a present one can be waited for."""
AGAIN_AT_MOST: Final = 30


class Value(NamedTuple):
    """A value of a document, None when it is absent."""

    revision: int
    data: bytes | None


class WatchedDocument:
    """The newest value of one document. It reads until the process ends, also while the server is away."""

    def __init__(self, client: DocumentClient, name: str) -> None:
        self._client = client
        self._name = name
        self._tag = ""
        self._away = 0

    def newest(self, last: Value | None, hold: int) -> Value:
        """The value when it is another one than `last`; `last` again after `hold` seconds. Raises `NoAnswer` for a refusal."""
        while True:
            try:
                return self._read(last, hold)
            except NoAnswer as error:
                if not error.again:
                    raise
                self._away = again_after(self._away, error)
            if last is not None:
                return last

    def _read(self, last: Value | None, hold: int) -> Value:
        headers = {"If-None-Match": self._tag, "Prefer": f"wait={hold}"} if self._tag else {}
        try:
            answer = self._client.call("GET", self._name, headers=headers)
        except NoAnswer as error:
            if error.code != 1:
                raise
            self._away, self._tag = 0, ""
            if last is None or last.data is not None:
                return Value(0, None)
            time.sleep(ABSENT_SECONDS)
            return last
        self._away = 0
        if answer.status == 304 and last is not None:
            return last
        self._tag = answer.headers.get("etag", "")
        shown = self._client.decoded(self._name, answer, Shown)
        return Value(shown.revision, bytes(shown.data))


def again_after(failures: int, error: NoAnswer) -> int:
    """Wait after one more failure in a row, and say the first; how many there are."""
    if not failures:
        note(f"{error}; trying again")
    time.sleep(min(AGAIN_AT_MOST, 0.25 * 2 ** min(failures + 1, 10)))
    return failures + 1


def values(watched: WatchedDocument) -> Iterator[Value]:
    """Each distinct value from now on."""
    last: Value | None = None
    while True:
        found = watched.newest(last, HOLD_SECONDS)
        if last is None or found.data != last.data:
            yield found
        last = found


def run_for_each(watched: WatchedDocument, command: Sequence[str], name: str, place: Place) -> None:
    """Run the command for each distinct value, the newest if several came meanwhile. It is run again when it has failed."""
    done: Value | None = None
    found = watched.newest(None, HOLD_SECONDS)
    failures = 0
    while True:
        if done is None or found.data != done.data:
            code = _run(command, found, name, place)
            if code == 0:
                done, failures = found, 0
            else:
                failures += 1
                note(
                    f"{plain(command[0], 200)} ended with {code} for revision {found.revision}; it runs again"
                )
        pause = HOLD_SECONDS if not failures else min(AGAIN_AT_MOST, 2 ** (failures - 1))
        newer = watched.newest(found, pause)
        if newer is found and failures and found.data is None:
            time.sleep(pause)
        found = newer


def _run(command: Sequence[str], value: Value, name: str, place: Place) -> int:
    """Its exit code. Raises `InputError` for a command that cannot be run."""
    environment = {
        **for_programs(),
        "CFGSYNC_CONFIG_NAME": name,
        "CFGSYNC_CONFIG_REVISION": str(value.revision),
        "CFGSYNC_ENVIRONMENT": place.environment,
    }
    sys.stdout.flush()
    try:
        return subprocess.run(command, input=value.data or b"null", env=environment, check=False).returncode
    except OSError as error:
        raise InputError(f"{command[0]}: {cause(error)}", "give a command that can be run") from error
