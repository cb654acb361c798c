"""`cfgsync fetch` of a ready payload, the whole process, against importing aiohttp and a shell loop around etcdctl."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from .. import processes, words
from ..jobs import Job, run
from ..scale import Scale
from ..table import Row, milliseconds

SHELL_LOOP = """
etcdctl put "/nodes/$1" "$2" >"$3.said"
until [ -s "$3" ]; do etcdctl get --print-value-only "/config/$1" >"$3"; done
"""


def measure(scale: Scale, scratch: Path) -> Iterator[Row]:
    nodes = scale.fetches
    names = [words.identifier(n) for n in range(nodes)]
    with ExitStack() as stack:
        server = stack.enter_context(processes.fleet_server(scratch / "fetch.db", nodes))
        etcd = stack.enter_context(processes.etcd(scratch))
        run(Job("flood", server.port, server.pid, "register", nodes, 202))
        run(Job("flood", server.port, server.pid, "held_node", 1))
        if etcd is not None:
            _put_configurations(etcd.port, names)

        best: dict[str, tuple[float, float]] = {}
        for name in names:
            commands = {
                "ours": fetching(f"http://127.0.0.1:{server.port}", name, scratch),
                "aiohttp": [sys.executable, "-c", "import aiohttp"],
            }
            if etcd is not None:
                commands["etcdctl"] = [
                    "sh",
                    "-c",
                    SHELL_LOOP,
                    "sh",
                    name,
                    "10.0.0.1",
                    str(scratch / f"{name}.out"),
                ]
            for what, command in commands.items():
                env = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": f"127.0.0.1:{etcd.port}"} if etcd else {}
                took = processes.spent(command, env)
                before = best.get(what, took)
                best[what] = (min(before[0], took[0]), min(before[1], took[1]))
    ours = best["ours"]
    for what, said, goal in (
        ("aiohttp", "importing aiohttp", "≤0.35"),
        ("etcdctl", "a shell loop around etcdctl", "≤2.5"),
    ):
        if what not in best:
            yield Row(f"cfgsync fetch against {said}", milliseconds(ours[0]), "no etcdctl here")
            continue
        other = best[what]
        yield Row(
            f"cfgsync fetch against {said}",
            milliseconds(ours[0]),
            milliseconds(other[0]),
            ours[0] / other[0],
            goal,
            f"{ours[1] / other[1]:.2f} ({milliseconds(ours[1])})",
        )


def fetching(url: str, name: str, scratch: Path) -> Sequence[str]:
    """The command of a node that registers as the load generator does."""
    number = int(name.rpartition("-")[2])
    return [
        str(processes.CFGSYNC), "fetch", "--id", name, "--server", url,
        "--ip", f"10.0.0.{number}", "--metadata", f'{{"port":{3000 + number},"zone":"b"}}',
        "--out", str(scratch / f"out-{name}"), "--state", str(scratch / f"state-{name}"),
    ]  # fmt: skip


def _put_configurations(port: int, names: Sequence[str]) -> None:
    etcdctl = shutil.which("etcdctl")
    assert etcdctl is not None
    for name in names:
        (file,) = words.payload(int(name.rpartition("-")[2])).files
        env = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": f"127.0.0.1:{port}"}
        subprocess.run(
            [etcdctl, "put", f"/config/{name}", str(file.content)],
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
        )
