"""What is shown of two texts: the lines that differ, and never more work than was meant."""

from __future__ import annotations

import random
import time

from cfgsync_runtime.page.text_diff import COMPARED_LINES, CUT, PAGE_LINES, SHOWN_LINES, LineBudget, text_diff


def shown(before: str | None, after: str | None, budget: LineBudget | None = None) -> str | None:
    lines = text_diff(before, after, budget or LineBudget())
    return None if lines is None else "\n".join(lines)


def test_the_lines_that_differ_are_shown_with_two_around_them() -> None:
    before = "".join(f"line {at}\n" for at in range(20))
    said = shown(before, before.replace("line 10\n", "line ten\n"))
    assert said is not None
    assert "<del>-line 10</del>\n<ins>+line ten</ins>" in said
    assert "line 8" in said
    assert "line 7" not in said


def test_what_a_line_holds_is_no_markup() -> None:
    assert "<ins>+&lt;b&gt;</ins>" in (shown("", "<b>") or "")


def test_a_content_that_is_not_shown_is_not_compared() -> None:
    assert shown(None, "x") is None
    assert shown("x", None) is None


def test_texts_that_differ_in_line_ends_say_so() -> None:
    assert "their line ends differ" in (shown("a\n", "a") or "")


def test_long_texts_are_not_compared_and_one_view_compares_only_so_many() -> None:
    assert shown("x\n" * (2 * COMPARED_LINES), "y") is None
    budget = LineBudget()
    text = "a\n" * 100
    compared = [shown(text, text + "b\n", budget) is not None for _ in range(PAGE_LINES // 100)]
    assert True in compared
    assert compared[-1] is False
    assert compared == sorted(compared, reverse=True)


def test_the_worst_texts_take_little_time_and_space() -> None:
    chance = random.Random(15)
    lines = ["ab"[chance.randrange(2)] * 500 for _ in range(2 * COMPARED_LINES)]
    began = time.process_time()
    said = text_diff("\n".join(lines[::2]), "\n".join(lines[1::2]), LineBudget())
    assert said is not None
    assert time.process_time() - began < 5
    assert len(said) <= SHOWN_LINES + 1
    assert max(map(len, said)) < CUT + 100
