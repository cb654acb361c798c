"""A fetch by hand sees the lock of a watcher in the state directory, and what the watcher registered; real files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cfgsync_core import NodeRegistration
from cfgsync_runtime.node.memory.watcher_lock import WatcherLock, watcher_beside, watching

NODE = NodeRegistration("a", "10.0.0.1").with_metadata({"port": 1})
HOLDER = """
import sys
from cfgsync_runtime.node.memory.watcher_lock import WatcherLock
lock = WatcherLock(sys.argv[1], "/srv/a")
assert lock.take()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_watcher_is_seen_as_long_as_it_lives_and_not_after_a_kill(tmp_path: Path) -> None:
    assert watcher_beside(str(tmp_path / "state"), "a") is None
    assert list(tmp_path.iterdir()) == [], "nothing is made by looking"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    beside = watcher_beside(str(tmp_path / "state"), "a")
    assert beside is not None
    assert (beside.places, beside.registration) == ("", None), "it has not said them yet"
    assert not WatcherLock(str(tmp_path / "state"), "/srv/b").take()
    holder.kill()
    holder.communicate()
    assert watcher_beside(str(tmp_path / "state"), "a") is None
    assert WatcherLock(str(tmp_path / "state"), "/srv/b").take()


def test_what_differs_from_the_watchers_registration_is_named_and_handed_over(tmp_path: Path) -> None:
    with watching(WatcherLock(str(tmp_path), "/srv/a")) as lock:
        assert lock.take()
        lock.note(NODE)
        assert lock.registration() == NODE
        assert watcher_beside(str(tmp_path), "b") is None, "it is of another node"
        beside = watcher_beside(str(tmp_path), "a")
        assert beside is not None
        assert (beside.places, beside.registration) == ("/srv/a", NODE)
        for ip, metadata, changes, merged in (
            (None, None, (), NODE),
            ("10.0.0.1", {"port": 1}, (), NODE),
            ("10.0.0.2", None, ("--ip",), NodeRegistration("a", "10.0.0.2", NODE.payload)),
            (None, {"port": 2}, ("--metadata",), NODE.with_metadata({"port": 2})),
        ):
            node = NodeRegistration("a", ip or "10.9.9.9").with_metadata(metadata)
            assert beside.changes(ip, node) == changes
            assert beside.merged(ip, node) == merged
        beside.hand_over(NODE.with_metadata("new"))
        assert lock.registration() == NODE.with_metadata("new")
    assert lock.registration() is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"places":1}', b'{"places":"x","registration":{"identifier":"a"}}']
)
def test_a_file_that_is_half_written_says_nothing(tmp_path: Path, content: bytes) -> None:
    with watching(WatcherLock(str(tmp_path), "/srv/a")) as lock:
        assert lock.take()
        (tmp_path / "watcher").write_bytes(content)
        assert lock.registration() is None
        beside = watcher_beside(str(tmp_path), "a")
        assert beside is not None
        assert beside.changes("10.0.0.1", NODE) == ()
        assert beside.merged("10.0.0.1", NODE) == NODE
