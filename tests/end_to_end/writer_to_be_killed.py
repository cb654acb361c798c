"""A process that forks a writer for every line on its standard input, prints the writer's process id, and on the next
line reaps it. A fork starts in a millisecond; the writer writes for ever, until it is killed.

    python writer_to_be_killed.py directory|map|state PLACE
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import NodeArtifactsPayload
from cfgsync_runtime.node.memory.state import KnownGeneration, NodeState
from cfgsync_runtime.node.outputs import ArtifactOutputMap, OutputDirectory, write

FILES = 64


def files(label: str, count: int = FILES) -> list[ArtifactFile]:
    """Files that say which set they are of and which of it they are, on every line."""
    return [ArtifactFile(f"/d{n % 5}/f{n}", f"{label} {n}\n" * (100 + 37 * n)) for n in range(count)]


def payload(label: str) -> NodeArtifactsPayload:
    return NodeArtifactsPayload.from_files(ArtifactSet(files(label, 8)))


def seen(label: str) -> KnownGeneration:
    return KnownGeneration("epoch", int(label.partition("-")[0]), payload(label).digest, 0.0)


def write_once(kind: str, place: str, label: str) -> None:
    if kind == "directory":
        write(OutputDirectory(place).plan(files(label)))
    elif kind == "map":
        outputs = ArtifactOutputMap().under(os.path.join(place, "rest"))
        for n in range(8):
            outputs = outputs.route(f"/d{n % 5}/f{n}", os.path.join(place, f"r{n % 2}", f"routed{n}"))
        write(outputs.plan(files(label, 16)))
    else:
        state = NodeState(place, "node-1")
        state.secret()
        state.keep(payload(label), seen(label))


def write_for_ever(kind: str, place: str, run: int) -> NoReturn:
    turn = 0
    while True:
        turn += 1
        write_once(kind, place, f"{run}-{turn}-{'AB'[turn % 2]}")


def main(kind: str, place: str) -> None:
    for run, _ in enumerate(sys.stdin, 1):
        child = os.fork()
        if child == 0:
            write_for_ever(kind, place, run)
        print(child, flush=True)
        sys.stdin.readline()
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
