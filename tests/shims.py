"""`cfgsync` for a shell: a small program that has its command forked (tests/forks.py), passes signals on, and ends as it ends.

For the shell the command is one process, which takes a signal, a kill −9 and its standard streams as usual. What cannot be
forked is started: under another user, another umask or `nohup`, or with a variable that an interpreter reads. Limits of
`ulimit` are not passed on.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Self

from tests.forks import BIN, ENTRIES, ForkedCommand, may_fork

_OF_A_SHELL = ("HOME", "OLDPWD", "PATH", "PWD", "PYTHONUNBUFFERED", "SHLVL", "_")
"""Variables of a shell; the streams of a fork are buffered whatever its variables say."""
_LARGEST = 128 * 1024

# Without `site`, `os` and `socket`, which would take twice as long to load.
_SHIM = """#!{python} -IS
import posix, signal, sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket

name = sys.argv[0].rpartition("/")[2]
mask = posix.umask(0)
posix.umask(mask)
ignored = [one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) == signal.SIG_IGN]
nohup = "nohup" if signal.SIGHUP in ignored else ""
door = socket(AF_UNIX, SOCK_SEQPACKET)
door.connect({door!r})
words = [name, posix.getcwd(), str(mask), nohup, str(len(sys.argv) - 1), *sys.argv[1:]]
lines = [word.encode("utf-8", "surrogateescape") for word in words]
lines += [key + b"=" + value for key, value in posix.environ.items()]
heard, pid = [], 0
def hear(number, frame):
    heard.append(number)
    pass_on()
def pass_on():
    while pid and heard:
        try:
            posix.kill(pid, heard.pop(0))
        except ProcessLookupError:
            pass
for one in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
    if one not in ignored:
        signal.signal(one, hear)
stdio = b"".join(fd.to_bytes(4, sys.byteorder) for fd in (0, 1, 2))
door.sendmsg([b"\\0".join(lines)], [(SOL_SOCKET, SCM_RIGHTS, stdio)])
answer = door.recv(64)
if answer == b"start":
    posix.execv({bin!r} + name, [{bin!r} + name, *sys.argv[1:]])
pid = int(answer)
pass_on()
code = int(door.recv(64))
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    posix.kill(posix.getpid(), -code)
posix._exit(code)
"""


class Shims:
    """A directory for a shell's PATH, whose commands this process forks off."""

    _here: Self | None = None

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="cfgsync-shims-"))
        door = str(self.directory / "door")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(door)
        self._listener.listen(64)
        for name in ENTRIES:
            script = self.directory / name
            script.write_text(_SHIM.format(python=sys.executable, door=door, bin=f"{BIN}/"))
            script.chmod(0o755)
        threading.Thread(target=self._accept, daemon=True).start()

    @classmethod
    def of_this_process(cls) -> Self:
        """They are there until it ends."""
        if cls._here is None:
            cls._here = cls()
            atexit.register(shutil.rmtree, cls._here.directory, ignore_errors=True)
        return cls._here

    def _accept(self) -> None:
        while True:
            shim, _ = self._listener.accept()
            threading.Thread(target=_carry, args=(shim,), daemon=True).start()


def _carry(shim: socket.socket) -> None:
    """Fork the command of one shim, and tell it how that ended; a shim that was killed takes the command with it."""
    with shim:
        request, stdio, _, _ = socket.recv_fds(shim, _LARGEST, 3)
        try:
            name, cwd, umask, nohup, count, *lines = request.decode("utf-8", "surrogateescape").split("\0")
            arguments = lines[: int(count)]
            environment = dict(line.split("=", 1) for line in lines[int(count) :])
            if nohup or int(umask) != _umask() or not may_fork(name, environment, also=_OF_A_SHELL):
                shim.send(b"start")
                return
            stdin, stdout, stderr = stdio
            process = ForkedCommand(
                [BIN / name, *arguments],
                cwd=cwd,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                text=True,
            )
        finally:
            for fd in stdio:
                os.close(fd)
        shim.send(str(process.pid).encode())
        ended = os.pidfd_open(process.pid)
        both = select.poll()
        both.register(ended, select.POLLIN)
        both.register(shim, select.POLLIN)
        if ended not in dict(both.poll()):
            process.kill()
        code = process.wait()
        os.close(ended)
        with contextlib.suppress(BrokenPipeError):
            shim.send(str(code).encode())


def _umask() -> int:
    return int(Path("/proc/self/status").read_text().partition("Umask:")[2].split()[0], 8)
