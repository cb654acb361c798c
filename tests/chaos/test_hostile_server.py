"""A node against a server that means harm: it ends in time with 6 or 7, and nothing on its disk has changed.

Each case ends with the honest payload of the same server, which lands. In the short form a part of the cases goes
through the same code without a process of its own.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfgsync_core import CfgsyncClient, Fetched, NodeRegistration, ServerUrl, Trust
from cfgsync_runtime import Signer, Verifier
from cfgsync_runtime.access.signatures import make_key_pair
from cfgsync_runtime.node.fetch import fetch
from cfgsync_runtime.node.memory.state import NodeState
from cfgsync_runtime.node.outputs import OutputDirectory
from tests.certificates import Authority, server_context
from tests.chaos.form import LONG, sized
from tests.chaos.hostile import (
    CASES,
    EPOCH,
    LARGE,
    MIB,
    SEEN,
    SETS,
    Case,
    HostileServer,
    Play,
    content_of,
    digest,
    large,
    says,
    serves,
    serves_large,
)
from tests.chaos.hostile import (
    file as artifact,
)
from tests.processes import BIN

MEASURED = Path(__file__).with_name("measured.py")
MAX_CLIENT_MIB = 100
SLACK = sized(10, 4)
"""Seconds beyond `--wait` that a busy machine may take to start and to end a process."""


class Disk:
    """All that a node's server could reach for: its target, its state, and files beside and above them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.out, self.state = root / "node" / "out", root / "node" / "state"

    def print(self) -> str:
        """A hash of every name, kind, mode, time and content."""
        seen = hashlib.sha256()
        for path in [self.root, *sorted(self.root.rglob("*"))]:
            at = path.lstat()
            words = (str(path.relative_to(self.root)), at.st_mode, at.st_size, at.st_mtime_ns)
            seen.update(repr(words).encode())
            if path.is_symlink():
                seen.update(os.readlink(path).encode())
            elif path.is_file():
                seen.update(path.read_bytes())
        return seen.hexdigest()

    async def fetched_by_a_process(self, url: str, wait: float) -> Any:
        command = [
            *(
                str(BIN / "cfgsync"),
                "fetch",
                "--server",
                url,
                "--id",
                "node-1",
                "--ip",
                "127.0.0.1",
                "--json",
            ),
            *("--out", str(self.out), "--state", str(self.state), "--wait", str(wait)),
        ]
        helper = [sys.executable, "-S", "-E", str(MEASURED), str(wait + 20), *command]
        done = await asyncio.to_thread(subprocess.run, helper, capture_output=True, text=True, cwd=self.root)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    async def fetched_here(
        self, url: str, wait: float, verify: Verifier | None = None, trust: Trust | None = None
    ) -> Any:
        began = time.monotonic()
        ending = await asyncio.to_thread(
            fetch,
            NodeRegistration("node-1", "127.0.0.1"),
            ServerUrl.parse(url, trust or Trust()),
            OutputDirectory(str(self.out)),
            NodeState(self.state, "node-1", verify=verify),
            wait=wait,
        )
        report = ending.report
        return {"exit": report.exit, "seconds": time.monotonic() - began, "errors": report.message}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk on which a real `cfgsync fetch` has put honest files, of a generation that it remembers."""

    async def make(root: Path) -> None:
        disk = Disk(root)
        disk.out.parent.mkdir(parents=True)
        for canary in (root / "canary.txt", root / "node" / "canary.txt", root / "etc" / "canary.txt"):
            canary.parent.mkdir(exist_ok=True)
            canary.write_text("canary")
        async with HostileServer() as server:
            server.generation = SEEN
            done = await disk.fetched_by_a_process(server.url, 30)
        assert done["exit"] == 0, done
        assert (disk.out / "current" / "config.yaml").read_text() == "id: node-1\n"
        print(f"an honest fetch: {done['peak_mib']:.0f} MiB, {done['cpu']:.2f} s of CPU")

    root = tmp_path_factory.mktemp("before") / "disk"
    asyncio.run(make(root))
    return root


peaks: dict[str, float] = {}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_hostile_server_ends_the_fetch_in_time_and_changes_nothing(
    case: Case, before: Path, tmp_path: Path
) -> None:
    disk = Disk(tmp_path / "disk")
    shutil.copytree(before, disk.root, symlinks=True)
    untouched = disk.print()
    async with HostileServer(case) as server:
        by = disk.fetched_by_a_process if case.process or LONG else disk.fetched_here
        for wait in (case.wait, 5 * case.wait):  # a busy machine may leave no time to come that far
            done = await by(server.url, wait)
            if server.asked:
                break
        assert server.asked, "it never came to the hostile part"
        assert done["exit"] == case.exit, done
        assert done["seconds"] < wait + SLACK
        assert disk.print() == untouched
        assert "Traceback" not in done["errors"]
        assert "\x1b" not in done["errors"]
        if "peak_mib" in done:
            peaks[case.name] = done["peak_mib"]
            assert done["peak_mib"] < MAX_CLIENT_MIB, done

        server.case = None  # the same server, honest
        assert (await disk.fetched_here(server.url, 30))["exit"] == 0
    assert (disk.out / "current" / "tls" / "key").read_text() == "secret\n"
    assert disk.print() != untouched


# ── a server that a node is connected to rightly, and that has not the key ───────────────────────────────────────────


NOW, OTHERS = f"{EPOCH}.3", "0" * 64
WRONG: dict[str, Callable[[Signer, Signer, str], tuple[str | None, str | None]]] = {
    "no signature": lambda ours, theirs, it: (NOW, None),
    "an empty one": lambda ours, theirs, it: (NOW, ""),
    "no envelope": lambda ours, theirs, it: (NOW, "e30="),
    "another key": lambda ours, theirs, it: (NOW, theirs("node-1", NOW, it)),
    "another node": lambda ours, theirs, it: (NOW, ours("node-2", NOW, it)),
    "a node with another case": lambda ours, theirs, it: (NOW, ours("Node-1", NOW, it)),
    "other files": lambda ours, theirs, it: (NOW, ours("node-1", NOW, f"sha256-{OTHERS}")),
    "an older generation": lambda ours, theirs, it: (NOW, ours("node-1", f"{EPOCH}.1", it)),
    "an older generation, named": lambda ours, theirs, it: (f"{EPOCH}.1", ours("node-1", f"{EPOCH}.1", it)),
    "a later generation": lambda ours, theirs, it: (NOW, ours("node-1", f"{EPOCH}.4", it)),
    "a generation that is not named": lambda ours, theirs, it: (None, ours("node-1", NOW, it)),
    "a revision of a bundle": lambda ours, theirs, it: (NOW, ours("node-1", "3", it)),
    "half of it": lambda ours, theirs, it: (NOW, ours("node-1", NOW, it)[:-20]),
    "twice": lambda ours, theirs, it: (NOW, ours("node-1", NOW, it) * 2),
    "our envelope around their signature": lambda ours, theirs, it: (
        NOW,
        _mixed(ours("node-1", NOW, it), theirs("node-1", NOW, it)),
    ),
}
SIGNED = [
    [artifact("/config.yaml", "id: node-1\n")],
    [artifact("/config.yaml", "")],
    [artifact("/tls/key", "secret", mode="0600")],
    [artifact("/a", "AAE=", encoding="base64")],
    [artifact("/a"), artifact("/b"), artifact("/c/d/e")],
    [artifact("/canary.txt", "other")],
    [artifact(f"/f{n}", str(n)) for n in range(200)],
    [artifact("/emoji", "\U0001f642" * 1000)],
]


def _mixed(ours: str, theirs: str) -> str:
    """The envelope of `ours` with the signature of `theirs` under the name of our key."""
    first, second = (json.loads(base64.b64decode(text)) for text in (ours, theirs))
    first["signatures"][0]["sig"] = second["signatures"][0]["sig"]
    return base64.b64encode(json.dumps(first).encode()).decode()


async def test_whatever_a_server_without_the_key_sends_is_exit_6_and_changes_nothing(
    before: Path, tmp_path: Path
) -> None:
    """Its certificate is valid: the node is connected to the server that it was told."""
    authority = Authority(tmp_path)
    trust, tls = Trust.parse(str(authority.file)), server_context(authority.pair())
    for name in ("ours", "theirs"):
        make_key_pair(str(tmp_path / name))
    ours, theirs = Signer(str(tmp_path / "ours")), Signer(str(tmp_path / "theirs"))
    verify = Verifier([str(tmp_path / "ours.pub")])
    disk = Disk(tmp_path / "disk")
    shutil.copytree(before, disk.root, symlinks=True)
    untouched = disk.print()
    ended = 0
    async with HostileServer(tls=tls) as server:
        for name, made in WRONG.items():
            for files in SIGNED:
                generation, text = made(ours, theirs, digest(files).strip('"'))
                headers = {} if text is None else {"Cfgsync_Signature": text}
                play = says_signed(files, generation, headers)
                server.case = Case(name, play)
                done = await disk.fetched_here(server.url, 30, verify, trust)
                assert done["exit"] == 6, (name, files[0], done)
                assert disk.print() == untouched, (name, files[0])
                ended += 1
        for name, files in SETS.items():  # the key's holder is not trusted with places on the disk either
            signature = ours("node-1", NOW, digest(files).strip('"'))
            server.case = Case(name, serves(*files, generation=NOW, Cfgsync_Signature=signature))
            assert (await disk.fetched_here(server.url, 30, verify, trust))["exit"] == 6, name
            assert disk.print() == untouched, name
            ended += 1
        for files in SIGNED[:3]:
            signature = ours("node-1", NOW, digest(files).strip('"'))
            server.case = Case("honest", serves(*files, generation=NOW, Cfgsync_Signature=signature))
            shutil.rmtree(disk.root)
            shutil.copytree(before, disk.root, symlinks=True)
            assert (await disk.fetched_here(server.url, 30, verify, trust))["exit"] == 0, files
    assert ended >= 110
    print(f"{ended} answers over TLS with a valid certificate, every one refused")


def says_signed(files: list[dict[str, object]], generation: str | None, headers: dict[str, str]) -> Play:
    """A payload with its right digest, and with these headers."""
    named = {} if generation is None else {"Cfgsync_Generation": generation}
    body = json.dumps({"schema_version": 1, "files": files}).encode()
    return says(body, ETag=digest(files), **named, **headers)


async def test_what_a_proxy_says_before_the_answer_is_passed_over(tmp_path: Path) -> None:
    async def early(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await serves(*HostileServer.HONEST)(writer)

    disk = Disk(tmp_path / "disk")
    async with HostileServer(Case("early hints", early)) as server:
        assert (await disk.fetched_here(server.url, 30))["exit"] == 0
        async with CfgsyncClient(server.url, secret="a" * 32) as client:
            assert isinstance(await client.fetch(NodeRegistration("node-1", "127.0.0.1"), wait=30), Fetched)
        assert server.asked == 2
    assert (disk.out / "current" / "tls" / "key").read_text() == "secret\n"


@pytest.mark.parametrize("name", LARGE)
async def test_a_payload_of_the_largest_legal_size_lands_in_little_memory(tmp_path: Path, name: str) -> None:
    disk = Disk(tmp_path)
    disk.out.parent.mkdir(parents=True)
    files = large(name)
    escaped = json.dumps(files)
    # to spell it as escapes makes no difference to ASCII, and makes some too large
    spelled = [False] if len(escaped) >= 16 * MIB or "\\u" not in escaped else [False, True]
    for ascii_only in spelled:
        case = Case(name, serves_large(name, ascii_only), exit=0)
        async with HostileServer(case) as server:
            for _ in ("new", "unchanged")[: 1 if ascii_only and not LONG else 2]:
                done = await disk.fetched_by_a_process(server.url, 30)
                assert done["exit"] == 0, done
                peaks[f"{name}, {ascii_only=}"] = done["peak_mib"]
                print(f"{name}, {ascii_only=}: {done['peak_mib']:.0f} MiB, {done['cpu']:.2f} s of CPU")
                assert done["peak_mib"] < MAX_CLIENT_MIB, done
        for file in files:
            landed = disk.out / "current" / str(file["path"]).removeprefix("/")
            assert landed.read_bytes() == content_of(file)


def test_real_processes_met_it_and_none_was_large() -> None:
    if not peaks:
        pytest.skip("NOT TESTED: the cases did not run")
    worst = max(peaks, key=lambda name: peaks[name])
    print(f"{len(CASES)} cases, {len(peaks)} by processes; the largest: {peaks[worst]:.0f} MiB ({worst})")
