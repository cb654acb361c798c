"""Where a server may place a file below a directory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfgsync_artifacts import InvalidArtifact, legal_places

LEGAL = {
    "/config.yaml": ("config.yaml",),
    "config.yaml": ("config.yaml",),
    "/etc/etcd/etcd.conf": ("etc", "etcd", "etcd.conf"),
    "/.hidden/..data/_x-": (".hidden", "..data", "_x-"),
    "/" + "a" * 255: ("a" * 255,),
    "/" + "é" * 127: ("é" * 127,),
    "/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g": tuple("123456789abcdefg"),
    "/getty@tty1.service.d/override.conf": ("getty@tty1.service.d", "override.conf"),
    r"/var-lib-etcd\x2ddata.mount": (r"var-lib-etcd\x2ddata.mount",),
    "/Wired connection 1.nmconnection": ("Wired connection 1.nmconnection",),
    "/90+ops/x86_64~compat.conf": ("90+ops", "x86_64~compat.conf"),
    "/aux.conf/con/NUL.txt": ("aux.conf", "con", "NUL.txt"),
    "/naïve/日本語/ｗ/١": ("naïve", "日本語", "ｗ", "١"),
    "/a:b*?<>|\"'%2e%2e=[1]": ("a:b*?<>|\"'%2e%2e=[1]",),
}

ILLEGAL = [
    "/", "//etc/passwd", "/a//b", "/a/", "/..", "/../x", "/a/../b", "/./x", "/a/.", "/...", "/x.", "/-rf", "/a/-x",
    "/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g/h", "/" + "a" * 256, "/" + "é" * 128, "/a\nb", "/config.yaml\n", "/~", "/~root",
    "/" + "/".join(["b" * 250] * 5), "/a /b", "/ a", "/a\tb", "/\x1b[2J", "/x\x7f", "/a\u00a0b", "/a\u3000b", "/a\u2028b",
    "/\u212a", "/e\u0301", "/a\u202eb", "/a\u200bb", "/\ue000", "/\U0001f600", "/a\x85b", "/soft\xadhyphen", "/½",
]  # fmt: skip


@pytest.mark.parametrize("path", LEGAL)
def test_a_legal_path_loses_one_leading_slash_and_is_split(path: str) -> None:
    assert legal_places([path]) == [LEGAL[path]]


@pytest.mark.parametrize("path", ILLEGAL)
def test_an_illegal_path_is_refused_and_named(path: str) -> None:
    with pytest.raises(InvalidArtifact) as refused:
        legal_places(["/fine", path])
    assert refused.value.path == path


@pytest.mark.parametrize(
    "paths",
    [
        ["/a", "a"],
        ["/a", "/a/b"],
        ["/a/b", "/a"],
        ["/a/b/c", "/a/b"],
        ["/Config", "/config"],
        ["/A/x", "/a/y"],
        ["/d/A/x", "/d/a"],
        ["/straße", "/STRASSE"],
        ["/É", "/é"],
        ["/ΐ", "/Ϊ́"],
    ],
)
def test_paths_that_would_be_one_file_or_one_directory_somewhere_are_refused(paths: list[str]) -> None:
    with pytest.raises(InvalidArtifact, match="collides"):
        legal_places(paths)


def test_one_name_in_two_directories_is_fine() -> None:
    assert legal_places(["/a/x", "/b/x", "/b/y/x"]) == [("a", "x"), ("b", "x"), ("b", "y", "x")]


@given(st.lists(st.text(st.sampled_from("aA./-_~\\: \0\néÉ\u0301ß\u202e"), max_size=12), max_size=4))
def test_whatever_the_paths_what_is_accepted_stays_below_the_directory(paths: list[str]) -> None:
    try:
        places = legal_places(paths)
    except InvalidArtifact:
        return
    for parts in places:
        assert 1 <= len(parts) <= 16
        assert not any(name in ("", ".", "..") or "/" in name or name.startswith("-") for name in parts)
    folded = ["/".join(parts).casefold() for parts in places]
    assert len(set(folded)) == len(folded)
