"""Commands that a file has for other machines, run on this one: only the paths and addresses are replaced."""

from __future__ import annotations

import shlex
import ssl
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.processes import Place, Server, ask


class Here:
    """Runs `cfgsync` commands of containers and units in `place`. `places` maps a path or address in a command (the
    longest match wins) to the one on this machine."""

    def __init__(self, place: Place, places: Mapping[str, str]) -> None:
        self._place = place
        self._places = dict(places)

    def also(self, places: Mapping[str, str]) -> Here:
        """A copy with more places."""
        return Here(self._place, {**self._places, **places})

    def word(self, text: str) -> str:
        for there in sorted(self._places, key=len, reverse=True):
            text = text.replace(there, self._places[there])
        return text

    def words(self, command: Iterable[str]) -> list[str]:
        """The command up to its `--`: the program behind it is not on this machine."""
        return list(until(map(self.word, command)))

    def serve(self, command: Sequence[str], cwd: Path) -> Server:
        """A server's command, on a free port, in the directory of its materializer."""
        assert command[0] == "serve"
        return self._place.serve(*self.words(command[1:]), cwd=cwd)

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """A node's command."""
        assert command[0] == "fetch"
        process, _ = self._place.start(
            *self.words(command), environment={name: self.word(text) for name, text in environment.items()}
        )
        return process


def made_certificate(place: Place, readme: Path) -> Path:
    """Run the `cfgsync tls init …` of a README, also for `localhost`; the directory that it writes."""
    (line,) = [line for line in readme.read_text().splitlines() if line.startswith("cfgsync tls init --host")]
    made = place.run(*shlex.split(line)[1:], "--host", "localhost")
    assert made.returncode == 0, made.stderr
    return place.directory / line.split()[-1]


def https_url(server: Server) -> str:
    """The URL of a server on this machine by the name that its certificate has."""
    assert server.url.startswith("https://127.0.0.1:"), server.said
    return server.url.replace("127.0.0.1", "localhost")


def answered(server: Server, path: str, ca: Path) -> int:
    """The status that a verified GET of a server with TLS gets."""
    return ask(server.port, "GET", path, tls=ssl.create_default_context(cafile=str(ca))).status


def until(words: Iterable[str], end: str = "--") -> Iterable[str]:
    """The words before `end`."""
    for word in words:
        if word == end:
            return
        yield word
