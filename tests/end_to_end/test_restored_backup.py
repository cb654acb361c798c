"""A server whose store was restored from an older copy is noticed by what its nodes know, and one command heals it."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from cfgsync_core.store.epoch import epoch_ms, uuid7
from tests.processes import Place, Server, body, ended

HERE = Path(__file__).parent
CLOCK_AHEAD_MS = 30 * 24 * 3600 * 1000


def serve(place: Place, store: Path, port: int = 0) -> Server:
    return place.serve("application:Fleet", "--store", f"sqlite:{store}", port=port, cwd=HERE)


def read(path: Path) -> str:
    return json.loads(path.read_text())["key"]


@pytest.mark.parametrize("clock", ["right", "behind"])
def test_a_restored_backup_is_refused_named_and_shown_and_a_new_epoch_heals_it(
    place: Place, clock: str
) -> None:
    store, backup = place.directory / "store.db", place.directory / "backup"
    server = serve(place, store)
    assert ended(place.fetch(server.url, "node-1"))[0] == 0
    assert server.stop() == 0
    if clock == "behind":  # the nodes have seen an epoch that this machine's clock has yet to reach
        ahead = uuid7(time.time_ns() // 1_000_000 + CLOCK_AHEAD_MS)
        assert place.run("store", "new-epoch", "--store", f"sqlite:{store}", "--after", ahead).returncode == 0
        older = place.directory / "older.db"
        server = serve(place, older)  # as it was before the clock was set back: of an older epoch
        assert ended(place.fetch(server.url, "other"))[0] == 0
        assert server.stop() == 0
        shutil.copy(older, backup)
    else:
        shutil.copy(store, backup)

    server = serve(place, store, server.port)
    for number in range(3):  # three more generations
        assert server.ask("POST", "/register", body(f"late-{number}")).status == 202
        assert ended(place.fetch(server.url, "node-1"))[0] == 0
    seen = server.status("node-1")["served"]
    key = read(place.current("node-1") / "fleet.json")
    assert server.stop() == 0

    for leftover in place.directory.glob("store.db*"):
        leftover.unlink()
    shutil.copy(backup, store)
    server = serve(place, store, server.port)
    refused = place.run(*place.fetching(server.url, "node-1"))
    assert refused.returncode == 6
    happened, do = refused.stderr.splitlines()[-2:]
    got = server.status()["generation"]
    assert seen in happened
    assert got in happened
    assert seen != got
    shown = server.status("node-1")["last_failure"]
    assert shown is not None
    assert got in shown
    assert seen in shown
    assert read(place.current("node-1") / "fleet.json") == key, "the files stay"

    command = re.search(r"cfgsync (store new-epoch --store) URL (--after \S+)", do)
    assert command is not None, do
    told = [*command[1].split(), f"sqlite:{store}", *command[2].split()]
    held = place.run(*told)
    assert held.returncode == 1
    assert len(held.stderr.splitlines()) == 2
    assert server.stop() == 0
    healed = place.run(*told)
    assert healed.returncode == 0, healed.stderr
    epochs = {line.split(": ")[1].rpartition(".")[0] for line in healed.stdout.splitlines()[:-1]}
    assert len(epochs) == 1
    assert epoch_ms(epochs.pop()) > epoch_ms(seen.rpartition(".")[0])

    server = serve(place, store, server.port)
    again = place.run(*place.fetching(server.url, "node-1"))
    assert again.returncode == 0, again.stderr
    assert "new epoch" in again.stderr
    healed_node = server.status("node-1")
    assert healed_node["last_failure"] is None
    assert healed_node["applied"] == server.status()["generation"]


def test_new_epoch_makes_no_store_and_refuses_what_is_no_epoch(place: Place) -> None:
    absent = place.directory / "nobody.db"
    done = place.run("store", "new-epoch", "--store", f"sqlite:{absent}")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)
    assert not absent.exists()
    for wrong in ("yesterday", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"):
        done = place.run("store", "new-epoch", "--store", f"sqlite:{absent}", "--after", wrong)
        assert done.returncode == 2
        assert "--after" in done.stderr
    assert place.run("store", "new-epoch", "--store", "memory:").returncode == 1
