"""`cfgsync store check` reads everything, beside a running server too, and names damage without touching it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cfgsync_runtime import open_backend


def check(path: Path) -> tuple[int, list[str], list[str]]:
    done = subprocess.run(
        [Path(sys.executable).parent / "cfgsync", "store", "check", "--store", f"sqlite:{path}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


async def filled(path: Path) -> None:
    async with open_backend(f"sqlite:{path}") as (store, *_):
        for number in range(50):
            await store.commit("letters", {f"key-{number:03}": b"value " * 200})


async def test_a_whole_store_is_whole_also_beside_the_server_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with open_backend(f"sqlite:{path}") as (store, *_):
        await store.commit("letters", {"a": b"1"})
        code, out, _ = check(path)
    assert code == 0
    assert out == ["letters: revision 1, 1 entry, 1 byte, history of 1 commit", "whole: 1 bucket"]


async def test_a_flipped_bit_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    await filled(path)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"value value")] ^= 1
    path.write_bytes(raw)
    code, _, err = check(path)
    assert code == 1
    assert len(err) == 2
    assert "does not match its digest" in err[0]
    assert path.read_bytes() == raw


async def test_a_file_that_is_no_store_is_named_and_never_made_one(tmp_path: Path) -> None:
    for name, content in {"empty": b"", "foreign": os.urandom(4096), "text": b"hello"}.items():
        path = tmp_path / name
        path.write_bytes(content)
        code, _, err = check(path)
        assert (code, len(err)) == (1, 2), name
        assert path.read_bytes() == content
    assert err[0] == f"{path} is not a cfgsync store (not an SQLite file)"
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, what in {"directory": "is a directory", "pipe": "is not a regular file"}.items():
        code, _, err = check(tmp_path / name)
        assert (code, len(err)) == (1, 2), name
        assert err[0].endswith(what)
    code, _, err = check(tmp_path / "nobody")
    assert (code, len(err)) == (1, 2)
    assert not (tmp_path / "nobody").exists()
