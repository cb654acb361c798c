"""A token file as people and platforms write it; what is wrong with one is said without what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfgsync_runtime import InputError
from cfgsync_runtime.node.memory.token_file import read_token

TOKEN = "cfgsync_0123456789ab_" + "A" * 43


@pytest.mark.parametrize("text", [TOKEN, "\ufeff" + TOKEN, f"{TOKEN}\n", f"{TOKEN}\r\n", f"  {TOKEN}  \n\n"])
def test_blanks_and_line_ends_around_a_token_do_not_matter(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text, newline="")
    assert read_token(str(tmp_path / "token")) == TOKEN


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "it is empty"),
        ("\n \n", "it is empty"),
        (f"{TOKEN}\n{TOKEN}\n", "it has 2 lines"),
        (f'"{TOKEN}"\n', "there is no token in it"),
        (f"CFGSYNC_TOKEN={TOKEN} x", "there is no token in it"),
    ],
)
def test_what_is_no_token_is_two_lines_that_do_not_show_it(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read_token(str(file))
    assert str(refused.value) == f"--token-file {file}: {what}"
    assert refused.value.hint.startswith(
        "it holds one line, the token as cfgsync token create has printed it"
    )


def test_a_file_that_is_not_there_or_is_a_directory_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "absent", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(InputError, match=f"--token-file {path}: {why}") as refused:
            read_token(str(path))
        assert "put the token there, in a file of mode 0600" in refused.value.hint


@pytest.mark.parametrize("given", [TOKEN, TOKEN * 30, "tr0ub4dor-and-three", "aB3/" * 11])
def test_a_token_that_is_given_in_place_of_its_file_is_not_shown(
    tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        read_token(given)
    assert str(refused.value).startswith(f"--token-file {given[:8]}…: ")
    assert refused.value.hint.startswith(
        "--token-file and CFGSYNC_TOKEN_FILE take a FILE, never the token itself"
    )
    assert given[:9] not in f"{refused.value}{refused.value.hint}"
