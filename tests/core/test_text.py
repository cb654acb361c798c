"""Text for people: one safe line, the cause of an error, a number with its noun, a time in UTC."""

from __future__ import annotations

import pytest

from cfgsync_core.text import both_ends, cause, counted, error_text, plain, rfc3339, shortened


def test_foreign_text_is_one_line_that_cannot_move_the_cursor() -> None:
    assert plain("two\n lines\t\x1b[2J") == "two lines ?[2J"


@pytest.mark.parametrize(("limit", "shown"), [(3, "abc…"), (6, "abcdef"), (None, "abcdef")])
def test_text_beyond_its_limit_is_cut_and_shows_that(limit: int | None, shown: str) -> None:
    assert plain("abcdef", limit) == shown


def test_text_that_utf8_cannot_encode_is_replaced_before_it_is_shortened() -> None:
    assert shortened("a\udc80bc", 3) == "a?b…"


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "text"), [(ValueError("no port"), "no port"), (KeyError(), "KeyError"), (Mute(), "Mute")]
)
def test_an_error_without_a_message_is_named_by_its_type(error: Exception, text: str) -> None:
    assert error_text(error) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(13, "Permission denied"), "permission denied"),
        (ValueError("Embedded null"), "embedded null"),
    ],
)
def test_the_cause_is_in_the_systems_words_where_it_has_some(error: Exception, text: str) -> None:
    assert cause(error) == text


def test_a_number_agrees_with_its_noun() -> None:
    assert (counted(0, "file"), counted(1, "file"), counted(2, "file")) == ("0 files", "1 file", "2 files")


def test_a_time_is_rfc_3339_in_utc_with_seconds() -> None:
    assert rfc3339(1_769_846_400) == "2026-01-31T08:00:00Z"


def test_a_text_that_is_too_long_keeps_its_start_and_most_of_its_end() -> None:
    assert both_ends("as it is", 20) == "as it is"
    cut = both_ends("a" * 100 + "\x1b" + "z" * 100, 30)
    assert (len(cut), cut) == (30, f"{'a' * 10} … {'z' * 17}")
