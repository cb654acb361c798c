"""The user that the materializer's process runs as: another one than the server's cannot read the server's files."""

from __future__ import annotations

import os
import pwd

import msgspec

from ..errors import InputError


class Account(msgspec.Struct, frozen=True):
    """A user of this machine, with its groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @classmethod
    def of(cls, name: str) -> Account:
        """The user of this name. Raises `InputError`: only root may start a process as another user."""
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            raise InputError(
                f"--materializer-user: there is no user {name!r} on this machine", "name one that exists"
            ) from None
        if os.geteuid() != 0:
            who = f"a server of user {os.geteuid()} cannot run its materializer as {name}"
            raise InputError(f"--materializer-user: {who}", "start the server as root, or leave the flag out")
        groups = os.getgrouplist(name, found.pw_gid)
        return cls(name, found.pw_uid, found.pw_gid, tuple(groups), found.pw_dir)

    def words(self) -> str:
        """What `become` reads."""
        return ",".join(map(str, (self.uid, self.gid, *self.groups)))

    def environment(self) -> dict[str, str]:
        """What names the user in its environment."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def become(words: str) -> None:
    """Give up the rights of root for those of an account, and there is no way back. `""`: stay."""
    if words:
        uid, gid, *groups = map(int, words.split(","))
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
