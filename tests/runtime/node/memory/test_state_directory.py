"""One folder for each server and name: however the URL is spelled, and where older versions made it."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from cfgsync_artifacts import DiskError
from cfgsync_runtime.node.memory.state_directory import state_directory


def under(root: Path, url: str, identifier: str = "n1") -> Path:
    return root / "cfgsync" / sha256(f"{url}\0{identifier}".encode()).hexdigest()[:16]


def folder(root: Path, url: str, identifier: str = "n1", **more: str) -> tuple[Path, list[str]]:
    said: list[str] = []
    places = {"HOME": str(root / "home"), "XDG_STATE_HOME": str(root)}
    found = state_directory(url, identifier, said.append, {**places, **more})
    return Path(found), said


@pytest.mark.parametrize(
    "url",
    ["http://h.example/", "HTTP://H.Example", "http://h.example:80", "http://h.example:80//", "h.example:80"],
)
def test_spelling_does_not_matter(tmp_path: Path, url: str) -> None:
    first, _ = folder(tmp_path, "http://h.example")
    assert folder(tmp_path, url) == (first, [])


@pytest.mark.parametrize(
    "url", ["https://h.example", "http://h.example:81", "http://g.example", "http://h.example/a"]
)
def test_another_server_has_another_folder_and_is_named_with_the_flag_that_would_use_it(
    tmp_path: Path, url: str
) -> None:
    first, _ = folder(tmp_path, "http://h.example")
    assert folder(tmp_path, "http://h.example", "n2")[1] == []
    other, (line,) = folder(tmp_path, url)
    assert other != first
    assert "n1 at http://h.example:80" in line
    assert line.endswith(f"give --state {first}")
    assert folder(tmp_path, url) == (other, [])


def test_of_several_other_servers_the_one_whose_files_came_last_is_named(tmp_path: Path) -> None:
    used, _ = folder(tmp_path, "http://used.example")
    (Path(used) / "secret").touch()
    (Path(used) / "seen").touch()
    for mistyped in ("http://usd.example", "https://used.example"):
        at, (line,) = folder(tmp_path, mistyped)
        (Path(at) / "secret").touch()
        assert line.endswith(f"give --state {used}")


@pytest.mark.parametrize("more", [{}, {"STATE_DIRECTORY": "new:other"}])
def test_the_folder_of_an_older_version_is_adopted_with_its_secret(
    tmp_path: Path, more: dict[str, str]
) -> None:
    more = {name: f"{tmp_path}/{text}" for name, text in more.items()}
    old = under(tmp_path, "http://h.example/")
    old.mkdir(parents=True)
    (old / "secret").write_text("mine")
    found, said = folder(tmp_path, "http://h.example/", **more)
    assert found == under(tmp_path / "new" if more else tmp_path, "http://h.example:80")
    assert (found / "secret").read_text() == "mine"
    assert (said, old.exists()) == ([], False)
    assert (found / "server").read_text() == "http://h.example:80\n"
    assert (found / "identifier").read_text() == "n1\n"


def test_a_folder_that_cannot_be_moved_is_used_where_it_is(tmp_path: Path) -> None:
    old = under(tmp_path, "http://h.example")
    old.mkdir(parents=True)
    (tmp_path / "file").write_text("")
    assert folder(tmp_path, "http://h.example", STATE_DIRECTORY=f"{tmp_path}/file") == (old, [])


def test_the_root_is_systemds_then_xdgs_then_below_home_and_without_any_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = {name: f"{tmp_path}/{name}" for name in ("STATE_DIRECTORY", "XDG_STATE_HOME", "HOME")}
    for name, root in roots.items():
        given = {
            one: text for one, text in roots.items() if list(roots).index(one) >= list(roots).index(name)
        }
        found = state_directory("http://h", "n1", environ=given)
        below = f"{root}/.local/state" if name == "HOME" else root
        assert os.path.dirname(found) == f"{below}/cfgsync"
        assert os.stat(found).st_mode & 0o777 == 0o700
        os.rename(found, f"{tmp_path}/away-{name}")  # else the next root adopts it
    assert "relative" not in state_directory(
        "http://h", "n1", environ={**roots, "STATE_DIRECTORY": "relative"}
    )
    monkeypatch.setattr(os.path, "expanduser", lambda text: text)  # as without a passwd entry
    with pytest.raises(DiskError) as refused:
        state_directory("http://h", "n1", environ={})
    assert refused.value.hint == "give --state DIR"


def test_several_servers_are_one_whatever_their_order(tmp_path: Path) -> None:
    first, _ = folder(tmp_path, "http://a.example")
    (first / "secret").write_text("mine")
    several, said = folder(tmp_path, "http://b.example,http://a.example")
    assert ((several / "secret").read_text(), said) == ("mine", [])
    assert folder(tmp_path, "http://b.example") == (several, [])
