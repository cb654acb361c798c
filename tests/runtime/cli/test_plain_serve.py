"""A plain command line of `serve` is read as typer reads it, and everything else is left to typer."""

from __future__ import annotations

import os
from typing import Any

import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st

from cfgsync_runtime.cli import serve as by_typer
from cfgsync_runtime.cli.app import made_of
from cfgsync_runtime.cli.parts.messages import Over
from cfgsync_runtime.cli.parts.serve.plain_serve import plain_flags
from cfgsync_runtime.errors import InputError
from cfgsync_runtime.settings.serve_settings import ServeSettings, flag_of

OPTIONS = ["--bundle", "--config"] + [
    flag_of(name) for name, field in ServeSettings.model_fields.items() if field.description is not None
]
TEXTS = st.one_of(
    st.sampled_from(
        ["1", "0", "4400", "-5", "0.5", "nan", "x", "sqlite:a.db", "::", "a:B", "", "-", "--", "'q'", "a\r", " 7 ", "1_0"]
    ),
    st.text(max_size=6).filter(lambda text: "\0" not in text),
)  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    words = [draw(st.one_of(st.just("app:M"), TEXTS))] if draw(st.booleans()) else []
    for option in draw(st.lists(st.sampled_from(OPTIONS), max_size=4)):
        is_switch = draw(st.booleans()) if draw(st.integers(0, 3)) == 0 else option in SWITCHES
        words.append(option)
        if not is_switch:
            text = draw(TEXTS)
            words[-1:] = [f"{option}={text}"] if draw(st.booleans()) else [option, text]
    return words


SWITCHES = {flag_of(name) for name, field in ServeSettings.model_fields.items() if field.annotation is bool}
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
READ: list[dict[str, object]] = []


def _keep(flags: dict[str, object]) -> Over:
    READ.append({name: value for name, value in flags.items() if value not in (None, [], ())})
    return Over(0)


@pytest.fixture(scope="module")
def command() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CFGSYNC_")]:
            patch.delenv(name)
        patch.setattr(by_typer, "run_server", _keep)
        yield made_of(by_typer.command, "serve", {})


def read_by_typer(command: Any, words: list[str]) -> dict[str, object] | None:
    """None: it is refused."""
    READ.clear()
    try:
        command.main(list(words), standalone_mode=False)
    except (InputError, USAGE_ERROR):
        return None
    return READ[0]


@given(line=lines())
@example(line=["app:M", "--host", "::", "--host", "127.0.0.1", "--port", "1", "--port=2", "--json-logs"])
@example(line=["--bundle", "a", "--json-logs", "--json-logs"])
@example(line=["--documents", "--shrink-guard", "12.5"])
def test_what_is_read_without_typer_is_what_typer_reads(command: Any, line: list[str]) -> None:
    plain = plain_flags(line)
    if plain is not None:
        assert repr(sorted(plain.items())) == repr(sorted((read_by_typer(command, line) or {}).items()))


@pytest.mark.parametrize(
    "line",
    [
        ["app:M", "--port", "0", "--store", "memory:"],
        ["--bundle", "bundle.yaml", "--host=::", "--json-logs"],
        ["--config=server.yaml"],
        ["--documents"],
    ],
)
def test_the_lines_of_the_documentation_are_plain(line: list[str]) -> None:
    assert plain_flags(line) is not None


@pytest.mark.parametrize(
    "line",
    [["--help"], ["app:M", "b:N"], ["--port", "x"], ["--prot", "1"], ["app:M", "--port"], ["--json-logs=1"], ["'app:M'"]],
)  # fmt: skip
def test_help_and_what_is_wrong_is_left_to_typer(line: list[str]) -> None:
    assert plain_flags(line) is None
