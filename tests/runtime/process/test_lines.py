"""The log's lines: whatever becomes of stderr costs lines and nothing else, and the lines that it cost are counted."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cfgsync_runtime.process import lines as module
from cfgsync_runtime.process.lines import RECORD, Lines, read_lines
from cfgsync_runtime.process.logs import JsonLines, TextLines, passing_on
from tests.processes import eventually

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that holds one page: the end to read, and the end to write."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    with suppress(OSError):
        os.close(reading)
    for thread in threading.enumerate():  # else it would write into the next pipe, which gets the same number
        if thread.name == "cfgsync-lines":
            thread.join(5)
    with suppress(OSError):
        os.close(writing)


def read_until(pipe: int, last: str) -> list[str]:
    """The lines up to one that ends with `last`."""
    read = b""
    until = time.monotonic() + 20
    while not read.endswith(f"{last}\n".encode()):
        assert time.monotonic() < until, read[-200:]
        read += os.read(pipe, 65536)
    return read.decode().splitlines()


@pytest.mark.timed
def test_a_reader_that_reads_nothing_holds_nobody_up_and_the_lost_lines_are_counted(pipe: Pipe) -> None:
    lines = Lines(held=10, to=pipe[1])
    began = time.monotonic()
    for number in range(1000):
        lines.say(f"line {number} {'x' * 100}")
    assert time.monotonic() - began < 1
    written: list[int] = []
    lost = 0
    while len(written) + lost < 1000:
        for line in read_until(pipe[0], ""):
            if line.endswith(" lines could not be written"):
                lost += int(line.split()[0])
            else:
                written.append(int(line.split()[1]))
    assert lost > 800
    assert written == sorted(written)
    lines.say("again")
    assert read_until(pipe[0], "again") == ["again"]
    lines.end()


@pytest.mark.timed
def test_the_end_waits_a_second_for_a_reader_that_reads_nothing(pipe: Pipe) -> None:
    lines = Lines(held=5, to=pipe[1])
    for _ in range(20):
        lines.say("x" * 4000)
    began = time.monotonic()
    lines.end()
    assert time.monotonic() - began < 2.5


def test_a_reader_that_has_gone_costs_lines_only(pipe: Pipe) -> None:
    os.close(pipe[0])
    lines = Lines(to=pipe[1])
    for _ in range(3):
        lines.say("unheard")
    lines.end()


def test_lines_that_a_full_disk_refused_are_counted_when_there_is_room(tmp_path: Path) -> None:
    to = os.open("/dev/full", os.O_WRONLY)
    lines = Lines(to=to)
    lines.setFormatter(JsonLines())
    lines.say("one\ntwo")
    lines.say("three")
    while lines._lost < 3:
        time.sleep(0.01)
    with (tmp_path / "log").open("wb") as file:
        os.dup2(file.fileno(), to)
    lines.say("four")
    lines.end()
    os.close(to)
    four, lost = (tmp_path / "log").read_text().splitlines()
    assert four == "four"
    assert json.loads(lost)["facts"] == {"lines": 3}


def test_a_pipe_that_another_process_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe[1], False)
    lines = Lines(to=pipe[1])
    for number in range(100):
        lines.say(f"{number} {'x' * 500}")
    time.sleep(0.1)
    assert [line.split()[0] for line in read_until(pipe[0], f"99 {'x' * 500}")] == [
        str(n) for n in range(100)
    ]
    lines.end()


@pytest.mark.timed
def test_another_process_is_slowed_down_by_a_slow_reader_and_held_up_once_by_one_that_reads_nothing(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    lines = Lines(held=2, to=pipe[1])
    began = time.monotonic()
    for _ in range(20):
        lines.pass_on("x" * 3000)
    assert 0.3 <= time.monotonic() - began < 1.5, "the first that finds no room waits, and no other"
    read_until(pipe[0], "lines could not be written")
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.extend(read_until(pipe[0], "last")))
    reader.start()
    for number in range(200):
        lines.pass_on(f"{number} {'x' * 3000}")
    lines.pass_on("last")
    reader.join(20)
    begins = [
        line.split()[0] for line in heard if not line.startswith("x")
    ]  # those that were still in the queue
    assert begins == [*(str(n) for n in range(200)), "last"]
    lines.end()


def test_what_another_process_prints_without_end_crowds_out_no_line_of_our_own(pipe: Pipe) -> None:
    lines = Lines(held=10, to=pipe[1])
    over = threading.Event()

    def print_without_end() -> None:
        while not over.is_set():
            lines.pass_on("x" * 1000)

    printing = threading.Thread(target=print_without_end)
    printing.start()
    heard, until = b"", time.monotonic() + 20
    try:
        for number in range(20):
            lines.say(f"ours {number}")
            while f"ours {number}\n".encode() not in heard:
                assert time.monotonic() < until, f"line {number} is lost"
                heard = heard[-100:] + os.read(pipe[0], 65536)
    finally:
        over.set()
        os.close(pipe[0])
        printing.join(10)
        lines.end()


def test_output_is_passed_on_in_whole_lines_until_its_last_writer_has_gone() -> None:
    reading, writing = os.pipe()
    got: list[str] = []
    reader = read_lines(reading, got.append)
    for piece in (b"one\ntw", b"o\nthr", b"ee\xff"):
        os.write(writing, piece)
        time.sleep(0.05)
    os.close(writing)
    reader.join(10)
    assert got == ["one", "two", "three\\xff"]


def test_a_log_record_is_on_a_line_of_its_own_also_after_a_part_of_a_line() -> None:
    reading, writing = os.pipe()
    got: list[str] = []
    reader = read_lines(reading, got.append)
    for piece in (
        f"{RECORD}first\n",
        "prin",
        f"ted{RECORD}second\n{RECORD}third\nprinted again\n",
        RECORD,
        "last",
    ):
        os.write(writing, piece.encode())
        time.sleep(0.01)
    os.close(writing)
    reader.join(10)
    assert "\n".join(got) == "first\nprinted\nsecond\nthird\nprinted again\nlast"


def test_a_part_of_a_line_is_passed_on_when_silence_follows_and_its_end_is_no_second_line() -> None:
    reading, writing = os.pipe()
    got: list[str] = []
    reader = read_lines(reading, got.append)
    os.write(writing, b"whole\nbefore the hang")
    eventually(lambda: got == ["whole", "before the hang"])
    os.write(writing, f"\n{RECORD}half of ".encode())
    time.sleep(1.5 * module.SILENCE)  # a record is never cut
    os.write(writing, b"a record\nagain")
    eventually(lambda: got[-1] == "again")
    os.write(writing, f"{RECORD}last\n".encode())
    os.close(writing)
    reader.join(10)
    assert got == ["whole", "before the hang", "half of a record", "again", "last"]


def test_what_is_printed_or_logged_moves_no_terminals_cursor_and_hides_no_line(pipe: Pipe) -> None:
    lines = Lines(to=pipe[1])
    said = "a\x1b[2J\r2026 INFO forged\x9b\u202e\tü\r\nend"
    shown = ["a\\x1b[2J\\r2026 INFO forged\\x9b\\u202e\tü", "end"]
    passing_on(lines, False)(said)
    assert read_until(pipe[0], "end") == shown
    record = logging.LogRecord("app", logging.INFO, "", 1, said, (), None)
    assert TextLines().format(record).partition("app: ")[2].split("\n") == shown
    lines.end()


def test_a_line_without_an_end_is_passed_on_in_pieces() -> None:
    reading, writing = os.pipe()
    got: list[str] = []
    reader = read_lines(reading, got.append)
    with open(writing, "wb") as output:
        output.write(b"x" * 100_000)
    reader.join(10)
    assert "".join(got) == "x" * 100_000
    assert max(map(len, got)) <= 2 * module.PIECE_BYTES


def test_what_is_printed_becomes_json_unless_it_is_a_line_of_a_log(pipe: Pipe) -> None:
    lines = Lines(to=pipe[1])
    of_the_log = JsonLines().format(logging.LogRecord("app", logging.WARNING, "", 1, "low", (), None))
    passing_on(lines, True)(f"printed\n{of_the_log}\n{{}}")
    printed, logged, braces = (json.loads(line) for line in read_until(pipe[0], "}"))
    assert (printed["event"], printed["level"], printed["msg"]) == ("printed", "info", "printed")
    assert (logged["level"], logged["logger"], logged["msg"]) == ("warning", "app", "low")
    assert braces["msg"] == "{}"
    passing_on(lines, False)("as it is")
    assert read_until(pipe[0], "as it is") == ["as it is"]
    lines.end()


def test_a_record_that_cannot_be_formatted_raises_nothing(
    pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(to=pipe[1])
    lines.setFormatter(TextLines())
    lines.handle(logging.LogRecord("app", logging.INFO, "", 1, "%d", ("no number",), None))
    lines.end()
    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_line_of_text_has_its_time_in_utc_and_the_name_of_a_foreign_logger() -> None:
    record = logging.LogRecord("cfgsync", logging.INFO, "", 1, "published %d", (1,), None)
    record.created = 1769846400.123
    assert TextLines().format(record) == "2026-01-31T08:00:00.123Z INFO published 1"
    record.name = "app.db"
    record.__dict__["traceback"] = "Traceback …"
    assert TextLines().format(record) == "2026-01-31T08:00:00.123Z INFO app.db: published 1\nTraceback …"
