"""A plain command line of `fetch` is read as typer reads it, and everything else is left to typer."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import typer
from hypothesis import example, given
from hypothesis import strategies as st

from cfgsync_runtime.cli.app import made_of
from cfgsync_runtime.cli.fetch import command, command_of, settings
from cfgsync_runtime.cli.parts.fetch.arguments import FetchArguments
from cfgsync_runtime.cli.parts.plain_line import Field, fields, read_plain
from cfgsync_runtime.errors import InputError
from cfgsync_runtime.settings.variables import variable_of

FIELDS = list(fields(FetchArguments))
WORDS = st.one_of(
    st.sampled_from(
        ["1", "0", "true", "yes", "5", "-5", "0.5", "nan", "1001", "degraded", "DEGRADED", "restart", "repair",
         "/a=b", "/a=b\n/c=d", "'quoted'", '"x"', "a\r", "", "-", "--", "--json", "tcp://10.0.0.1:80", " 7 ", "1_0"]
    ),
    st.text(max_size=6).filter(lambda text: "\0" not in text),
)  # fmt: skip


def usable(field: Field) -> st.SearchStrategy[str]:
    """Texts that the flag can mostly hold, so that enough lines are read whole."""
    if field.kind is bool:
        return st.sampled_from(["1", "true", "0", "false"])
    if field.kind is str:
        return st.sampled_from(["a", "b c", "/a=b", "x-y", "=", "ä"])
    return st.sampled_from(["0", "7", "12.5"] if field.kind in (int, float) else [*field.kind])  # type: ignore[call-overload]


@st.composite
def lines(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    """A command line and its environment."""
    words: list[str] = []
    environment: dict[str, str] = {}
    some = st.lists(st.sampled_from(FIELDS), max_size=4)
    for field in [*draw(some), *([FIELDS[0]] if draw(st.integers(0, 9)) else [])]:
        text = draw(usable(field) if draw(st.integers(0, 5)) else WORDS)
        if field.kind is bool:
            words.append(field.option)
        else:
            words += [f"{field.option}={text}"] if draw(st.booleans()) else [field.option, text]
    for field in draw(some):
        variable = variable_of("fetch", field.option[2:])
        text = draw(usable(field) if draw(st.integers(0, 5)) else WORDS)
        with_old = variable.old and draw(st.booleans())
        environment[variable.old if with_old else variable.name] = text.encode(errors="replace").decode()
    if not draw(st.integers(0, 9)):
        words.insert(draw(st.integers(0, len(words))), draw(WORDS))
    if draw(st.booleans()):
        words += ["--", *draw(st.lists(WORDS, max_size=3))]
    return words, environment


@pytest.fixture(scope="module", autouse=True)
def _no_variables() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("CFGSYNC_")}
    yield
    os.environ.update(kept)


READ: list[FetchArguments] = []


def _kept(arguments: FetchArguments) -> int:
    READ.append(arguments)
    return 0


BY_TYPER = made_of(command_of(_kept), "fetch", settings)
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


def read_by_typer(words: list[str], environment: dict[str, str]) -> FetchArguments | None:
    """None: it is refused."""
    READ.clear()
    os.environ.update(environment)
    try:
        BY_TYPER.main(list(words), standalone_mode=False)
    except (InputError, USAGE_ERROR):
        return None
    finally:
        for name in environment:
            os.environ.pop(name, None)
    return READ[0] if READ else None


def comparable(read: FetchArguments | None) -> dict[str, object]:
    assert read is not None
    values = msgspec.structs.asdict(read)
    return {name: "nan" if value != value else value for name, value in values.items()}


@given(lines())
@example((["--id", "a", "--out", "b", "--out", "c"], {}))  # the last one counts
@example((["--id", "a", "--out", "b", "--", "--id"], {"CFGSYNC_ROUTE": "/a=b\n\n/c=d\n"}))
@example(
    (["--id=a", "--wait", "nan", "--watch"], {"CFGSYNC_WATCH": "1", "CFGSYNC_KEEP": "tcp://10.0.0.1:80"})
)
def test_what_is_read_without_typer_is_what_typer_reads(line: tuple[list[str], dict[str, str]]) -> None:
    words, environment = line
    said: list[str] = []
    plain = read_plain(FetchArguments, "fetch", words, said.append, environment)
    if plain is None:
        assert said == [], "typer says it"
        return
    assert comparable(plain) == comparable(read_by_typer(words, environment))


def test_the_lines_that_people_write_are_plain() -> None:
    """The examples of the help, and one line with every flag: else the start would be slow without anybody noticing."""
    shown = [line.strip() for line in str(command.__doc__).splitlines() if line.strip().startswith("cfgsync")]
    assert len(shown) > 3
    every = [f"{field.option}={text_for(field)}" for field in FIELDS if field.kind is not bool]
    every += [field.option for field in FIELDS if field.kind is bool]
    for words in [shlex.split(line)[2:] for line in shown] + [every]:
        assert read_plain(FetchArguments, "fetch", words, print, {}) == read_by_typer(words, {}) is not None


def text_for(field: Field) -> str:
    return {str: "x", int: "3", float: "2.5"}.get(field.kind) or str(next(iter(field.kind)))  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "words",
    [["--id", "n", "--help"], ["-h"], ["--id"], ["--out", "o"], ["--id", "n", "x"], ["--id", "n", "--keep", "-1"],
     ["--id", "n", "--keep", "1001"], ["--id", "n", "--nonsense=1"], ["--id", "n", "--json=1"]],
)  # fmt: skip
def test_a_line_with_a_mistake_or_a_question_is_left_to_typer(words: list[str]) -> None:
    assert read_plain(FetchArguments, "fetch", words, print, {}) is None


def test_a_variable_is_talked_about_once(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    environment: dict[str, Any] = {"CFGSYNC_KEEP": "4", "CFGSYNC_WAIT": "tcp://10.0.0.1:80"}
    read = read_plain(FetchArguments, "fetch", ["--id", "n"], said.append, environment)
    assert read is not None
    assert (read.keep, read.wait, read.by_hand) == (4, None, {"identifier"})
    assert [line.split()[0] for line in said] == ["CFGSYNC_WAIT", "CFGSYNC_KEEP"]
