"""Which variable is whose, and which values are taken."""

from __future__ import annotations

import pytest

from cfgsync_runtime.errors import InputError
from cfgsync_runtime.settings.variables import Variable, variable_of


@pytest.mark.parametrize(
    ("command", "flag", "name", "old"),
    [
        ("fetch", "id", "CFGSYNC_ID", ""),
        ("fetch", "secret-file", "CFGSYNC_SECRET_FILE", ""),
        ("fetch", "watch", "CFGSYNC_FETCH_WATCH", "CFGSYNC_WATCH"),
        ("fetch", "server", "CFGSYNC_SERVER", ""),
        ("serve", "port", "CFGSYNC_SERVE_PORT", "CFGSYNC_PORT"),
        ("serve", "store", "CFGSYNC_STORE", ""),
        ("status", "watch", "CFGSYNC_STATUS_WATCH", ""),
        ("status", "wait-applied", "CFGSYNC_STATUS_WAIT_APPLIED", ""),
        ("generation rebuild", "timeout", "CFGSYNC_GENERATION_REBUILD_TIMEOUT", ""),
        ("node list", "server", "CFGSYNC_SERVER", ""),
        ("store check", "store", "CFGSYNC_STORE", ""),
    ],
)
def test_a_variable_belongs_to_one_command_or_means_the_same_in_all(
    command: str, flag: str, name: str, old: str
) -> None:
    assert variable_of(command, flag) == Variable(name, old)


def test_the_new_name_wins_over_the_former_one_without_a_word() -> None:
    said: list[str] = []
    both = {"CFGSYNC_SERVE_PORT": "1", "CFGSYNC_PORT": "2"}
    assert variable_of("serve", "port").read(both, said.append) == ("CFGSYNC_SERVE_PORT", "1")
    assert said == []


@pytest.mark.parametrize(
    "link", ["tcp://10.96.0.7:4400", "udp://10.96.0.7:53", "sctp://[fd00::7]:4400", "tcp://db:5432"]
)
@pytest.mark.parametrize("name", ["CFGSYNC_SERVE_PORT", "CFGSYNC_PORT"])
def test_a_service_link_is_ignored_with_a_line_and_leaves_the_next_name_its_chance(
    name: str, link: str
) -> None:
    said: list[str] = []
    assert variable_of("serve", "port").read({name: link}, said.append) is None
    assert said == [f"{name} is ignored: {link} is a container platform's service link"]
    also = {"CFGSYNC_SERVE_PORT": link, "CFGSYNC_PORT": "4401"}
    assert variable_of("serve", "port").read(also) == ("CFGSYNC_PORT", "4401")


@pytest.mark.parametrize("text", ["n1\r", "n1\n", "\tn1", "n\x001", "n1\x7f", "n1\x85", '"n1"', "'n1'", '""'])
def test_a_value_with_a_control_character_or_in_quotes_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InputError) as refused:
        variable_of("fetch", "id").read({"CFGSYNC_ID": text})
    assert str(refused.value).startswith("CFGSYNC_ID ")
    assert "n1" not in str(refused.value)


@pytest.mark.parametrize("text", ["n1", " n1 ", 'a"b', "it's", "'a' && 'b'", "'", "Größe", "http://h:4400"])
def test_every_other_value_is_taken_as_it_is(text: str) -> None:
    assert variable_of("fetch", "out").read({"CFGSYNC_OUT": text}) == ("CFGSYNC_OUT", text)


def test_json_may_have_blanks_and_double_quotes_but_no_single_ones() -> None:
    variable = variable_of("fetch", "metadata")
    for text in ('{"a": 1}\r\n', '"text"'):
        assert variable.read({"CFGSYNC_METADATA": text}, blanks="\t\n\r") == ("CFGSYNC_METADATA", text)
    with pytest.raises(InputError):
        variable.read({"CFGSYNC_METADATA": "'{\"a\": 1}'"}, blanks="\t\n\r")
