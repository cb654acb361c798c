"""The database file: created whole or not at all, recognised or refused, never overwritten.

Only SQLite opens it: closing any other descriptor of it would drop SQLite's locks in this process.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
from urllib.parse import quote

from cfgsync_core import StoreRefused

from ..failures import at_open, damaged

log = logging.getLogger("cfgsync")

APPLICATION_ID = 0x63666773  # "cfgs"
SCHEMA_VERSION = 5

SCHEMA = """
create table bucket (
    id integer primary key,
    name text not null unique,
    epoch text not null,
    revision integer not null,  -- the counter: contiguous, written in the transaction of its commit
    at_ms integer not null,
    floor integer not null,     -- history has every revision after this one
    folded integer not null,    -- entries hold every revision up to this one, history those after it
    seal integer not null,      -- sum over the live entries, see sums.py
    crc integer not null        -- over this row
) strict;
create table entry (
    bucket integer not null,
    key text not null,
    revision integer not null,
    digest blob,                -- SHA-256 of the value; null with it for a tombstone
    value blob,
    at_ms integer not null,     -- when; 0 is unknown
    primary key (bucket, key)
) strict, without rowid;
"""

# with rowids: without, SQLite reads whole rows, of megabytes perhaps, to find the place of a new one
HISTORY = (
    """create table history (
    bucket integer not null,
    revision integer not null,
    commit_id blob not null,
    at_ms integer not null,
    writes blob not null,       -- msgpack: key -> value, nil (deleted) or true (a blob: held by its live entry)
    digest blob not null,
    primary key (bucket, revision)
) strict""",
)

PULSE = (
    """create table pulse (        -- one row outside every bucket
    id integer primary key,
    session integer not null,   -- the one in the lock file's mark, see log_tail.py
    beats integer not null      -- counts the commits that only ask whether the disk answers
) strict""",
    "insert into pulse values (1, 0, 0)",
)

MOVE = (
    """create table move (         -- one row: where the store is on its way to another one, see core's store/moving.py
    id integer primary key,
    state text not null,
    peer text not null,
    epoch text not null
) strict""",
    "insert into move values (1, '', '', '')",
)


def connect(path: str, mode: str, factory: type[sqlite3.Connection]) -> sqlite3.Connection:
    """A connection in `mode` (`rw`, `ro`) that creates no file and begins no transaction by itself."""
    connection = sqlite3.connect(
        f"file:{quote(path)}?mode={mode}",
        uri=True,
        timeout=5.0,
        isolation_level=None,
        check_same_thread=False,
        factory=factory,
    )
    try:
        if mode == "rw":
            connection.execute("pragma synchronous=full")
            connection.execute("pragma cache_size=-16384")
            # some builds default to `on`, which writes each freed page once more: an old commit cost as much as a new one
            connection.execute("pragma secure_delete=fast")
            # a statement's undo log spills to a temporary file after 64 KiB: two writes more for each row of a group
            connection.execute("pragma temp_store=memory")
        # only the writer makes checkpoints, and never inside a COMMIT, which swallows their errors
        connection.execute("pragma wal_autocheckpoint=0")
        connection.execute("pragma cell_size_check=on")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_to_read(path: str, factory: type[sqlite3.Connection]) -> sqlite3.Connection:
    """A connection that reads beside a server or without one, also where nothing may be written. Raises `StoreRefused`."""
    real = os.path.realpath(path)
    if os.access(os.path.dirname(real), os.W_OK) or os.path.exists(real + "-shm"):
        return connect(path, "ro", factory)
    if os.path.exists(real + "-wal") and os.stat(real + "-wal").st_size:
        raise StoreRefused(
            f"{path} has a write-ahead log, and its directory is read-only: SQLite needs {real}-shm to read it",
            "copy the file and its -wal to a directory that can be written, and name the copy",
        )
    return connect(path, "ro&immutable=1", factory)  # all is in the file, so no server is at work


def prepare(path: str) -> None:
    """Create the file if it is absent, first under another name: a crash meanwhile then leaves no file that the next start
    must call damaged. The caller holds the lock."""
    draft = ""
    try:
        if os.path.lexists(path):
            return
        if os.path.lexists(path + ".new"):
            log.warning("%s.new is left as it is; the new store %s does not use it", path, path)
        # a name that no other program has, so nothing needs to be removed before; a crash here leaves it behind
        draft = f"{path}.{os.urandom(6).hex()}.new"
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with contextlib.closing(connect(draft, "rw", sqlite3.Connection)) as connection:
            numbers = f"pragma application_id={APPLICATION_ID}; pragma user_version={SCHEMA_VERSION};"
            connection.executescript(
                f"begin; {SCHEMA} {'; '.join(HISTORY + PULSE + MOVE)}; {numbers} commit;"
            )
            connection.execute("pragma journal_mode=wal")
        os.rename(draft, path)
        draft = ""
        descriptor = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, sqlite3.Error) as error:
        raise at_open(error, path) from error
    finally:
        for leftover in (draft, draft + "-journal") if draft else ():
            with contextlib.suppress(OSError):
                os.unlink(leftover)


def recognise(connection: sqlite3.Connection, path: str) -> int:
    """The schema's number. Raise `StoreRefused` unless this is a cfgsync store with a schema that this version knows."""
    found = connection.execute("pragma application_id").fetchone()[0]
    if found != APPLICATION_ID:
        raise StoreRefused(f"{path} is a database of another program", "give the path of a cfgsync store")
    schema = int(connection.execute("pragma user_version").fetchone()[0])
    if schema > SCHEMA_VERSION:
        raise StoreRefused(
            f"{path} was written by a newer cfgsync (schema {schema}, this one knows {SCHEMA_VERSION})",
            "run that version or a newer one",
        )
    if schema < 1:
        raise damaged(path, f"its schema is {schema}")
    return schema


def check_size(path: str) -> None:
    """Raise `StoreDamaged` for a file of 0 bytes, which SQLite would take for a new database, and `StoreRefused` for
    anything but a regular file, and for a log or index beside it that is a link to another file."""
    try:
        status = os.stat(path)
        real = os.path.realpath(path)
        for beside in (real + "-wal", real + "-shm", real + "-journal"):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(os.lstat(beside).st_mode):
                    raise StoreRefused(
                        f"{beside} is not a regular file, which SQLite would write through",
                        "find out where it comes from, and move it away",
                    )
    except OSError as error:
        raise at_open(error, path) from error
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise StoreRefused(f"{path} is {what}", "give the path of the store's file: sqlite:PATH")
    if status.st_size == 0:
        raise damaged(path, "it has 0 bytes")


def make_directories(directory: str) -> None:
    """Create each missing directory with mode 0700 (`os.makedirs` applies its mode to the last one only)."""
    if not os.path.isdir(directory):
        make_directories(os.path.dirname(directory))
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
