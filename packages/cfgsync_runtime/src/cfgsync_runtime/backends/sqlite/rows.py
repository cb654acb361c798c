"""Many rows in one statement: each statement releases the interpreter lock and must wait for it again."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Row: TypeAlias = tuple[int, bytes | None, bytes | None, int]
"""The revision that wrote a key, the digest of its value, the value, and the time of the commit in milliseconds. Digest and
value are None for a tombstone."""


def _by_rows(table: str, columns: int) -> dict[int, str]:
    """The statements that write 128, 64, … 1 rows: few enough that SQLite keeps each prepared."""
    row = "(" + ", ".join("?" * columns) + ")"
    return {
        rows: f"replace into {table} values {', '.join([row] * rows)}"
        for rows in (128, 64, 32, 16, 8, 4, 2, 1)
    }


_ENTRIES: Final = _by_rows("entry", 6)
_HISTORY: Final = _by_rows("history", 6)


def write_entries(connection: sqlite3.Connection, bucket: int, rows: Mapping[str, Row]) -> None:
    """Write entries sorted by key, so that the rows of one page are written together."""
    values: list[Any] = []
    for key in sorted(rows):
        values += (bucket, key, *rows[key])
    _write(connection, _ENTRIES, 6, values)


def write_history(connection: sqlite3.Connection, values: list[Any]) -> None:
    """Write rows of history; `values` has the six columns of each row, one after the other."""
    _write(connection, _HISTORY, 6, values)


def _write(
    connection: sqlite3.Connection, statements: dict[int, str], columns: int, values: list[Any]
) -> None:
    start, left = 0, len(values) // columns
    for rows, statement in statements.items():
        while left >= rows:
            end = start + rows * columns
            connection.execute(statement, values[start:end])
            start, left = end, left - rows
