"""`cfgsync bundle …` in this process: what it prints, what it writes into a bundle, and what it leaves as it was."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from cfgsync_runtime.cli.app import run
from cfgsync_runtime.settings.bundle_file import load_bundle

LISTED = """\
# the fleet
nodes:
- identifier: node-1  # the first
  files: [{path: /config.yaml, content: "id: node-1"}]
- {identifier: node-2, files: []}
shared_files: [{path: /shared.yaml, content: x}]
"""
NAMED = """\
shared: {files: [{path: /shared.yaml, content: x}]}
nodes:
  node-1: {files: [{path: /config.yaml, content: "id: node-1"}]}
  node-2: {files: []}"""
AS_JSON = json.dumps(
    {"nodes": {"node-1": {"files": [{"path": "/a", "content": "é"}]}, "node-2": {"files": []}}}
)


class Shell:
    """Runs commands of ours in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, list[str]]:
        code = run(["bundle", *words])
        printed = self._capsys.readouterr()
        return code, printed.out.strip(), printed.err.splitlines()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.chdir(tmp_path)
    shell = Shell(capsys)
    assert shell("keygen", "signing.key")[0] == 0
    return shell


@pytest.mark.parametrize("text", [LISTED, NAMED, AS_JSON], ids=["listed", "named", "JSON"])
def test_a_bundle_of_each_form_is_signed_in_place_checked_and_verified(shell: Shell, text: str) -> None:
    bundle = Path("b.yaml")
    bundle.write_text(text)
    bundle.chmod(0o640)
    before = load_bundle(bundle)
    assert shell("check", "b.yaml")[1] == "b.yaml: 2 nodes, not signed"
    code, out, _ = shell("sign", "b.yaml", "--key", "signing.key", "--revision", "7")
    assert (code, out.startswith("b.yaml: signed as revision 7 for 2 nodes by key ")) == (0, True)
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o640
    after = load_bundle(bundle)
    assert (after.nodes, after.shared_files, after.revision) == (before.nodes, before.shared_files, 7)
    assert set(after.signatures) == {"node-1", "node-2"}
    assert shell("check", "b.yaml") == (0, "b.yaml: 2 nodes, signed as revision 7", [])
    verified = shell("verify", "b.yaml", "--verify-key", "signing.key.pub")
    assert verified == (0, "b.yaml: 2 nodes, every one signed as revision 7", [])


def test_signing_again_replaces_the_signatures_and_keeps_every_comment(shell: Shell) -> None:
    bundle = Path("b.yaml")
    bundle.write_text(LISTED)
    shell("sign", "b.yaml", "--key", "signing.key", "--revision", "7")
    first = bundle.read_text()
    assert first.startswith(LISTED)
    bundle.write_text(first.replace("id: node-1", "id: node-one"))
    code, _, errors = shell("check", "b.yaml")
    assert (code, errors[0]) == (1, "b.yaml: changed since it was signed: node-1")
    code, _, errors = shell("verify", "b.yaml", "--verify-key", "signing.key.pub")
    assert (code, "node node-1: the signature is for files with digest" in errors[0]) == (1, True)
    assert shell("sign", "b.yaml", "--key", "signing.key", "--revision", "8")[0] == 0
    second = bundle.read_text()
    assert second.count("signatures:") == 1
    assert second.startswith(LISTED.replace("id: node-1", "id: node-one"))
    shell("keygen", "other.key")
    assert shell("verify", "b.yaml", "--verify-key", "other.key.pub")[0] == 1
    both = ["--verify-key", "other.key.pub", "--verify-key", "signing.key.pub"]
    assert shell("verify", "b.yaml", *both)[0] == 0


def test_an_older_revision_than_the_bundle_s_is_refused(shell: Shell) -> None:
    Path("b.yaml").write_text(LISTED)
    shell("sign", "b.yaml", "--key", "signing.key", "--revision", "7")
    code, _, errors = shell("sign", "b.yaml", "--key", "signing.key", "--revision", "5")
    assert (code, errors[0].startswith("--revision 5 is older than revision 7")) == (2, True)
    assert shell("sign", "b.yaml", "--key", "signing.key", "--revision", "7")[0] == 0


def test_without_a_number_each_signing_has_a_later_revision(shell: Shell) -> None:
    Path("b.yaml").write_text(f"{LISTED}revision: 99999999999\n")
    assert shell("sign", "b.yaml", "--key", "signing.key")[0] == 2, "an old revision stands outside the block"
    Path("b.yaml").write_text(LISTED)
    seen = []
    for _ in range(3):
        shell("sign", "b.yaml", "--key", "signing.key")
        seen.append(load_bundle("b.yaml").revision)
    assert seen == sorted(set(seen))
    assert seen[0] > 1_700_000_000


@pytest.mark.parametrize(
    "text",
    [
        "{nodes: [{identifier: node-1, files: [{path: /a, content: b}]}]}\n",
        "nodes:\n- {identifier: node-1, files: []}\n...\n",
        "  nodes:\n  - {identifier: node-1, files: []}\n",
        LISTED + "signatures: {node-1: abc}\n",
    ],
    ids=["flow", "an end", "indented", "signatures of another hand"],
)
def test_a_bundle_that_takes_no_lines_at_its_end_is_left_as_it_was(shell: Shell, text: str) -> None:
    Path("b.yaml").write_text(text)
    code, _, errors = shell("sign", "b.yaml", "--key", "signing.key")
    assert (code, len(errors)) == (2, 2)
    assert "cannot be added at its end" in errors[0]
    assert Path("b.yaml").read_text() == text
    assert sorted(path.name for path in Path().iterdir()) == ["b.yaml", "signing.key", "signing.key.pub"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("check", "absent.yaml"), 1),
        (("sign", "absent.yaml", "--key", "signing.key"), 2),
        (("sign", "b.yaml", "--key", "absent.key"), 2),
        (("sign", "b.yaml", "--key", "signing.key.pub"), 2),
        (("verify", "b.yaml", "--verify-key", "signing.key"), 2),
        (("verify", "b.yaml", "--verify-key", "signing.key.pub"), 1),
        (("keygen", "signing.key"), 2),
    ],
)
def test_every_refusal_is_two_lines(shell: Shell, words: Any, code: int) -> None:
    Path("b.yaml").write_text(LISTED)
    got, _, errors = shell(*words)
    assert (got, len(errors)) == (code, 2), errors
    assert Path("b.yaml").read_text() == LISTED


def test_a_link_to_a_bundle_stays_a_link(shell: Shell) -> None:
    Path("real.yaml").write_text(LISTED)
    Path("b.yaml").symlink_to("real.yaml")
    assert shell("sign", "b.yaml", "--key", "signing.key")[0] == 0
    assert Path("b.yaml").is_symlink()
    assert "signatures:" in Path("real.yaml").read_text()
