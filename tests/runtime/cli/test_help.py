"""Help that can be pasted: an example for each command, every flag a variable, and completion that loads no command."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cfgsync_runtime.cli.app import COMMANDS, command_line
from cfgsync_runtime.settings.serve_settings import ServeSettings
from cfgsync_runtime.settings.variables import variable_of

BIN = Path(sys.executable).parent
BY_HAND = {("check", "snapshot"), ("check", "store")}
"""Read by the command itself: a flag for one of them wins over a variable for the other."""


def walked(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group with the words that lead to it."""
    yield path, command
    if hasattr(command, "list_commands"):
        context = command.make_context("cfgsync", [], resilient_parsing=True)
        for name in command.list_commands(context):
            if not (
                found := command.get_command(context, name)
            ).hidden:  # an older name shows the help of the newer
                yield from walked(found, (*path, name))


ALL = list(walked(command_line()))
LEAVES = [(path, command) for path, command in ALL if not hasattr(command, "list_commands")]


def named(rows: list[tuple[tuple[str, ...], Any]]) -> list[str]:
    return [" ".join(("cfgsync", *path)) for path, _ in rows]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CFGSYNC_")]:
        monkeypatch.delenv(name)


def examples(command: Any) -> list[str]:
    """The lines that begin with `cfgsync` below `Examples:`, with what a backslash continues."""
    _, found, after = command.help.replace("\\\n", " ").partition("Example")
    return [line.strip() for line in after.splitlines() if line.startswith("  cfgsync")] if found else []


@pytest.mark.parametrize(("path", "command"), ALL, ids=named(ALL))
def test_each_help_has_an_example_that_is_understood(path: tuple[str, ...], command: Any) -> None:
    lines = examples(command)
    assert lines, command.help
    for line in lines:
        words = shlex.split(line)
        assert tuple(words[: len(path) + 1]) == ("cfgsync", *path)
        found, rest = command_line(), words[1:]
        while hasattr(found, "get_command"):
            context = found.make_context("cfgsync", [], resilient_parsing=True)
            found, rest = found.get_command(context, rest[0]), rest[1:]
        found.make_context(line, rest)  # raises what a wrong flag raises


@pytest.mark.parametrize(("path", "command"), ALL, ids=named(ALL))
def test_each_help_fits_eighty_columns(
    path: tuple[str, ...], command: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    from cfgsync_runtime.cli.entry import main

    texts = []
    for flag in ("--help", "-h"):
        with pytest.raises(SystemExit) as ended:
            main([*path, flag])
        assert not ended.value.code
        texts.append(capsys.readouterr().out)
    shown = texts[0]
    assert texts[1] == shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.partition("Commands:")[2], "a command's line is cut"
    assert not any(noise in shown for noise in ("<str>", "<int>", "{", "env var"))


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=named(LEAVES))
def test_every_flag_is_an_environment_variable(path: tuple[str, ...], command: Any) -> None:
    flags = [option for option in command.params if option.param_type_name == "option"]
    for option in flags:
        flag = option.opts[-1].removeprefix("--").replace("-", "_")
        if path == ("serve",):
            assert flag in {*ServeSettings.model_fields, "config", "bundle", "help"}
        elif flag != "help" and (path[0], flag) not in BY_HAND:
            assert option.envvar == variable_of(" ".join(path), option.opts[0][2:]).name, option.opts


# ── completion ───────────────────────────────────────────────────────────────────────────────────────────────────────


def completed(tmp_path: Path, *words: str) -> list[str]:
    """What bash offers for these words, the last of which is being typed."""
    script = tmp_path / "cfgsync.sh"
    environment = {
        "PATH": f"{BIN}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    with script.open("w") as file:
        subprocess.run(
            ["cfgsync", "--show-completion", "bash"], stdout=file, env=environment, check=True, timeout=60
        )
    line = " ".join(map(shlex.quote, words))
    typed = f'. {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _cfgsync_completion cfgsync; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", typed],
        capture_output=True,
        env=environment,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_commands_their_commands_and_flags(tmp_path: Path) -> None:
    assert completed(tmp_path, "cfgsync", "") == list(COMMANDS)
    assert completed(tmp_path, "cfgsync", "st") == ["status", "store"]
    assert completed(tmp_path, "cfgsync", "generation", "re") == ["rebuild"]
    assert completed(tmp_path, "cfgsync", "fetch", "--se") == ["--server", "--secret-file"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell_and_it_asks_cfgsync(shell: str) -> None:
    done = subprocess.run(
        [BIN / "cfgsync", "--show-completion", shell],
        capture_output=True,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        text=True,
        timeout=60,
        check=True,
    )
    assert f"_CFGSYNC_COMPLETE=complete_{shell}" in done.stdout
    asked = subprocess.run(
        [BIN / "cfgsync"],
        capture_output=True,
        env={
            **os.environ,
            "_CFGSYNC_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": "cfgsync st",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "COMP_WORDS": "cfgsync\nst",
            "COMP_CWORD": "1",
        },
        text=True,
        timeout=60,
        check=True,
    )
    assert "status" in asked.stdout
    assert "fetch" not in asked.stdout


def test_completing_a_command_s_name_loads_no_command() -> None:
    program = (
        "import json, sys\n"
        "from cfgsync_runtime.cli.app import command_line\n"
        "root = command_line()\n"
        "context = root.make_context('cfgsync', [], resilient_parsing=True)\n"
        "names = [item.value for item in root.shell_complete(context, '')]\n"
        "print(json.dumps([names, [m for m in sys.modules if m.startswith('cfgsync_runtime.cli.') or m == 'aiohttp']]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    names, loaded = json.loads(done.stdout)
    assert names == list(COMMANDS)
    assert sorted(loaded) == [
        f"cfgsync_runtime.cli.{name}" for name in ("app", "parts", "parts.messages", "parts.terminal")
    ]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_is_installed_where_the_shell_reads_it_and_refusals_are_two_lines(tmp_path: Path) -> None:
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def ask(shell: str, flag: str, **more: str) -> subprocess.CompletedProcess[str]:
        words = [shell, "-c", f"cfgsync {flag}; exit $?"]  # the shell stays, and is found to be the parent
        return subprocess.run(
            words, capture_output=True, env={**environment, **more}, text=True, timeout=60, check=False
        )

    assert ask("bash", "--install-completion").returncode == 0
    (script,) = (tmp_path / ".bash_completions").iterdir()
    assert f"source '{script}'" in (tmp_path / ".bashrc").read_text()
    assert script.read_text().strip() == ask("bash", "--show-completion").stdout.strip()
    for refused in (ask("sh", "--show-completion"), ask("bash", "--install-completion", HOME="/dev/null")):
        assert (refused.returncode, refused.stdout) == (1, "")
        assert len(refused.stderr.splitlines()) == 2, refused.stderr
