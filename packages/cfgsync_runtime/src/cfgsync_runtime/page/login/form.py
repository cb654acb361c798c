"""The form of `/login`: for a token, or to log out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from cfgsync_core.server import Reply

from ..assets import assets
from ..document import document
from ..formatting import section
from ..markup import Markup, el

_SENT: Final = {"method": "post", "class_": "login"}


class LoginForm(msgspec.Struct, frozen=True):
    """`title` is the fleet's, `reader` the name of the token of the session (`""`: none), `wrong`: a token was refused. `next` is
    the path that the browser wanted (`""`: the fleet)."""

    title: str
    reader: str
    wrong: bool
    next: str

    def reply(self) -> Reply:
        """The page. Its policy lets a browser send the `Origin` of its form."""
        headers: Mapping[str, str] = {**assets().headers, "Referrer-Policy": "same-origin"}
        body = document("Log in", self._section(), title=self.title, bare=True)
        return Reply(401 if self.wrong else 200, (body,), headers)

    def _section(self) -> Markup:
        if self.reader:
            return section(
                "login",
                el("h1", "Logged in"),
                el(
                    "p",
                    "With the token ",
                    el("b", self.reader),
                    ". ",
                    el("a", "To the fleet", href="./"),
                    class_="said",
                ),
                el("form", el("button", "Log out"), action="logout", **_SENT),
            )
        refused = (
            "This token is unknown, revoked or expired, or it is not one of a reader or an operator."
            if self.wrong
            else None
        )
        return section(
            "login",
            el("h1", "Log in"),
            el("p", refused, class_="bad", role="alert") if refused else None,
            el(
                "form",
                el("label", "Token of a reader or an operator", for_="token"),
                el(
                    "input",
                    type="password",
                    name="token",
                    id="token",
                    required=True,
                    autofocus=True,
                    autocomplete="off",
                ),
                el("input", type="hidden", name="next", value=self.next) if self.next else None,
                el("button", "Log in"),
                action="login",
                **_SENT,
            ),
            el(
                "p",
                "An operator makes one on the server's machine: ",
                el("code", "cfgsync token create --role reader --name NAME"),
                ". Already logged in? ",
                el("a", "To the fleet", href="./"),
                class_="muted",
            ),
        )
