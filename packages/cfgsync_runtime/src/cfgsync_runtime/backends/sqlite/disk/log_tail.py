"""Is the end of the write-ahead log there? SQLite takes a damaged or missing log for the end of a crash, without a word.

Three facts on disk say otherwise, and all are read before SQLite opens the file, since it then begins both files anew:

- the index beside the log (`-shm`) of this machine's same boot knows how many frames were committed;
- a commit that has frames of the same salts after it was synced before they were written, so it must be readable;
- the mark in the lock file names a session whose first commit must be in the log or, if that is gone, in the database.

Format: https://www.sqlite.org/walformat.html. Only the last commit before a power cut cannot be told from one that was
never acknowledged.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sqlite3
import struct
from typing import Final, NamedTuple, TypeAlias

from .file import connect
from .lock import Mark, boot_id

_HEADER: Final = struct.Struct(">IIII8sII")  # magic, version, page size, checkpoints, salts, sums
_FRAME: Final = struct.Struct(">II8sII")  # page, pages after a commit (else 0), salts, sums
_MAGIC: Final = 0x377F0682  # | 1: words are big-endian
_INDEX: Final = struct.Struct("=16sI12s8s8s")  # …, frames, …, salts, sums
_MASK: Final = 0xFFFFFFFF

Log: TypeAlias = "mmap.mmap | bytes"


class Scan(NamedTuple):
    """`recovered`: the frames that SQLite will use. `synced`: those that a later frame proves to have been committed."""

    salts: bytes
    recovered: int
    synced: int


def lost_tail(path: str, mark: Mark | None) -> str | None:
    """What is missing of the log of the database at `path`, which no server has open; None when nothing is."""
    crashed = mark is not None and mark.session != 0
    with contextlib.ExitStack() as stack:
        log = _content(path + "-wal", stack)
        scan = _scan(log)
        if scan is None:
            if not any(log[: _HEADER.size]) and not crashed:
                return None
            if mark is not None and crashed and _session_in(path) == mark.session:
                return None  # the program that removed the log had copied it into the database first
            return f"its write-ahead log {'is gone' if not log else 'has a damaged header'}"
    committed = scan.synced
    if mark is not None and crashed and mark.boot and mark.boot == boot_id():
        salts, frames = _index(path + "-shm")
        if frames and salts != scan.salts:
            return f"its write-ahead log is not that of its last server, which had {frames} frames"
        committed = frames or committed
    if scan.recovered < committed:
        return f"its write-ahead log is readable up to frame {scan.recovered}, and {committed} were committed"
    return None


def _session_in(path: str) -> int | None:
    """The session in the database file alone; None for a file that cannot be read or has none."""
    try:
        with contextlib.closing(connect(path, "ro&immutable=1", sqlite3.Connection)) as connection:
            found = connection.execute("select session from pulse").fetchone()
    except sqlite3.Error:
        return None
    return None if found is None else int(found[0])


def _content(name: str, stack: contextlib.ExitStack) -> Log:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    try:
        if os.fstat(descriptor).st_size == 0:
            return b""
        return stack.enter_context(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def _scan(log: Log) -> Scan | None:
    """None for a log without a whole header."""
    if len(log) < _HEADER.size:
        return None
    magic, _, page_size, _, salts, *sums = _HEADER.unpack_from(log)
    words = ">" if magic & 1 else "<"
    if magic | 1 != _MAGIC | 1 or page_size < 512 or _sum(words, log[:24], (0, 0)) != tuple(sums):
        return None
    seed = (sums[0], sums[1])
    size, whole = _FRAME.size + page_size, True
    recovered = synced = commit = 0
    for number in range(1, 1 + (len(log) - _HEADER.size) // size):
        at = _HEADER.size + (number - 1) * size
        _, pages, theirs, *told = _FRAME.unpack_from(log, at)
        if theirs != salts:
            whole = False  # what a log from before has left, unless frames of this one follow
            continue
        synced = commit
        if pages:
            commit = number
        if whole:
            seed = _sum(words, log[at : at + 8], seed)
            seed = _sum(words, log[at + _FRAME.size : at + size], seed)
            whole = seed == tuple(told)
            if whole and pages:
                recovered = number
    return Scan(salts, recovered, synced)


def _sum(words: str, content: bytes, seed: tuple[int, int]) -> tuple[int, int]:
    """SQLite's cumulative checksum. A statement for each word and a mask for each eight: this is most of a restart after a
    crash (12 ms for each megabyte of log)."""
    one, two = seed
    for a, b, c, d, e, f, g, h in struct.iter_unpack(f"{words}8I", content[: len(content) // 32 * 32]):
        one += a + two
        two += b + one
        one += c + two
        two += d + one
        one += e + two
        two += f + one
        one = one + g + two & _MASK
        two = two + h + one & _MASK
    for a, b in struct.iter_unpack(f"{words}2I", content[len(content) // 32 * 32 :]):
        one = one + a + two & _MASK
        two = two + b + one & _MASK
    return one, two


def _index(name: str) -> tuple[bytes, int]:
    """Salts and number of the committed frames, as the index knows them; 0 frames when it does not say."""
    with contextlib.ExitStack() as stack:
        content = bytes(_content(name, stack)[: 2 * _INDEX.size])
    first, second = content[: _INDEX.size], content[_INDEX.size :]
    if len(content) < 2 * _INDEX.size or first != second:
        return b"", 0  # killed while it was written: the log decides
    _, frames, _, salts, _ = _INDEX.unpack(first)
    return salts, frames
