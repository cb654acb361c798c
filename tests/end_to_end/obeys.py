"""The application that `test_materializer_faults.py` serves: it does what the newest node's metadata says.

Told by its environment: `PIDS` a file that gets the process id of each run, and of what it started.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

from cfgsync_adapter import ArtifactFile, MaterializationResult, MaterializedArtifacts, RegistrationSnapshot


class Obeys:
    """A file with everybody's names for everybody, unless a node's metadata, `{"do": WORD}`, is a method of this."""

    def materialize_snapshot(self, registrations: RegistrationSnapshot) -> MaterializationResult:
        note(os.getpid())
        names = ",".join(registrations.identifiers)
        made = MaterializedArtifacts.from_nodes(
            {name: [ArtifactFile("/names", names)] for name in registrations.identifiers}
        )
        for registration in registrations:
            word = (registration.metadata or {}).get("do")
            if word is not None:
                answer: MaterializationResult | None = getattr(self, word)(made)
                return answer  # type: ignore[return-value]
        return made

    def loop(self, made: MaterializedArtifacts) -> None:
        while True:
            pass

    def regex(self, made: MaterializedArtifacts) -> None:
        re.match(r"(a+)+$", "a" * 64 + "b")  # holds the interpreter for years

    def sleep(self, made: MaterializedArtifacts) -> None:
        time.sleep(600)

    def throw(self, made: MaterializedArtifacts) -> None:
        raise RuntimeError("port 99999 is no port")

    def end(self, made: MaterializedArtifacts) -> None:
        os._exit(3)

    def leave(self, made: MaterializedArtifacts) -> None:
        raise SystemExit("I leave")

    def twice(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        return made.with_shared([ArtifactFile("/names", "again")])

    def illegal(self, made: MaterializedArtifacts) -> object:
        return {"node-1": "files"}

    def nul(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        return made.with_shared([ArtifactFile("/a\0b", "")])

    def huge(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        return made.with_shared([ArtifactFile("/huge", "x" * 2**30)])

    def many(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        content = "x" * (15 * 2**19)
        return MaterializedArtifacts.from_nodes(
            {f"n-{n}": [ArtifactFile(f"/{n}", content), ArtifactFile(f"/{n}.b", content)] for n in range(35)}
        )

    def outside(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        return made.with_shared([ArtifactFile("/../../etc/x", "")])

    def crowd(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        return made.with_shared([ArtifactFile(f"/{n}", "") for n in range(1000)])

    def nothing(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        return MaterializedArtifacts.from_nodes({name: [] for name, _ in made})

    def misnamed(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        return MaterializedArtifacts.from_nodes({**made.nodes, "bad id/..": [ArtifactFile("/a", "")]})

    def strangers(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        return MaterializedArtifacts.from_nodes({"a-stranger": [ArtifactFile("/a", "")]})

    def mute(self, made: MaterializedArtifacts) -> None:
        raise Mute

    def shout(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        for _ in range(2000):
            print("shouted " * 250)
        os.write(1, b"\x00\x01" * 5000)
        raise RuntimeError("hoarse")

    def fork(self, made: MaterializedArtifacts) -> None:
        if not os.fork():
            note(os.getpid())
            time.sleep(600)
        note(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
        os._exit(3)

    def brood(self, made: MaterializedArtifacts) -> MaterializedArtifacts:
        """Leaves behind a fork, a program, and a program of that one which has closed every file."""
        if not os.fork():
            note(os.getpid())
            time.sleep(600)
        closes = "import os, time; os.fork(); os.closerange(0, 64); time.sleep(600)"
        note(subprocess.Popen([sys.executable, "-c", closes]).pid)
        return made

    def brood_and_loop(self, made: MaterializedArtifacts) -> None:
        self.brood(made)
        self.loop(made)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no words")


def note(pid: int) -> None:
    with open(os.environ["PIDS"], "a") as file:
        file.write(f"{pid}\n")
