"""The client of the operator's commands: a server's URL or admin socket, its pages, and its refusals as exit codes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Final, Self, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import typer

from cfgsync_core import FleetStatus, NodeStatus, ServerUrl
from cfgsync_core.node import Lost, Method, ReceivedAnswer, Request
from cfgsync_core.text import plain

from ...access import admin_socket
from ...node.network.addresses import Address, Addresses
from ...node.network.transport import HttpTransport
from .messages import NoAnswer, WaitingLine
from .server_flags import AskedServer, places_of
from .tokens.sent_token import token_for, use_tls

STATUS_WITHIN: Final = 10.0
ANSWER_WITHIN: Final = 30.0
STARTS_WITHIN, SAID_AFTER, ASK_AGAIN = 5.0, 1.0, 0.1
"""Seconds for which a command asks again where nobody listens yet, those after which a terminal shows it, and the pause."""
AGAIN: Final = {
    503: "run it again in a moment",
    507: "make room on the server, where the message says; then run it again",
}
NOTHING: Final[Mapping[str, str]] = {}
NOT_OURS: Final = "is this a cfgsync server? check --server, and that the server is not an old one"
WORDS_SHOWN: Final = 2_000
NOBODY_LISTENS: Final = ConnectionRefusedError, FileNotFoundError
"""Why a connection to a port or a socket fails before its server listens: nothing was sent."""

T = TypeVar("T")


class _Refusal(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""
    identifier: str | None = None
    hint: str = ""


class ServerClient:
    """Sends requests to one server over one connection: `with ServerClient(ServerUrl.parse("http://127.0.0.1:4400")) as client:`.

    Every method raises `NoAnswer` for an unusable answer: exit 5 when the server refuses, 7 when it does not answer, 1 for
    what an operator's route cannot do, 6 for a `/status` that is not cfgsync's. A server that is being started has
    `starts_within` seconds until it listens.
    """

    def __init__(
        self,
        server: ServerUrl,
        token_file: str | None = None,
        admin_socket: str | None = "",
        socket_first: bool = False,
        starts_within: float | None = None,
    ) -> None:
        self._url = server
        self._socket = admin_socket
        self._socket_first = socket_first
        self._starts_within = STARTS_WITHIN if starts_within is None else starts_within
        self.at = " or ".join(map(str, server.each))
        self._way = "--server"
        self._refused_hint = (
            "give a reader's or an operator's token (--token-file), or run it on the server's machine"
        )
        self._token = token_for(server, token_file)
        self._transport = HttpTransport(self._url)
        if socket_first:
            self._to_socket()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    @cached_property
    def _places(self) -> list[str]:
        return [] if self._socket == "" else places_of(self._url)

    def _to_socket(self) -> bool:
        """Ask the admin socket from now on: the given one, or one that answers. False: go on as before."""
        if self._token is not None or self._way == "--admin-socket":
            return False
        path = self._socket or next(filter(_answers, self._places), None)
        if path is None:
            return False
        self.at, self._way = path, "--admin-socket"
        self._refused_hint = "run it on the server's machine, as its user or root"
        self._transport.close()
        here = ServerUrl("http", "localhost", self._url.port)
        self._transport = HttpTransport(here, _OneSocket(here, path))
        return True

    def body(self, identifier: str | None) -> bytes:
        """The body of a status as the server sends it."""
        path = "/status" if identifier is None else _path(identifier)
        answer, _ = self._status(path, FleetStatus if identifier is None else NodeStatus)
        return answer.body

    def node(self, identifier: str) -> NodeStatus:
        return self.status(_path(identifier), NodeStatus)

    def fleet(self) -> tuple[FleetStatus, list[NodeStatus]]:
        """The fleet and every node: one answer has a limited number of nodes, in the order of their names."""
        fleet = self.status("/status", FleetStatus)
        page, nodes = fleet.nodes, list(fleet.nodes)
        # a bundle's nodes need not have registered
        listed = sum(count for state, count in fleet.counts.items() if state != "not_registered")
        while page and len(nodes) < max(fleet.registered, listed):
            page = self.status(f"/status?after={quote(page[-1].identifier, safe='')}", FleetStatus).nodes
            nodes += page
        return fleet, nodes

    def status(self, target: str, kind: type[T]) -> T:
        """A status, decoded."""
        return self._status(target, kind)[1]

    def _status(self, target: str, kind: type[T]) -> tuple[ReceivedAnswer, T]:
        answer = self._send("GET", target, STATUS_WITHIN)
        if answer.status != 200:
            raise self._refusal(target, answer, 7)
        return answer, self.decoded(target, answer, kind, 6)

    def get(
        self, path: str, query: Mapping[str, object], kind: type[T], *, missing: bool = False
    ) -> T | None:
        """The body of a 200, decoded. With `missing` a 404 is None."""
        answer = self._send("GET", f"{path}?{urlencode(dict(query))}" if query else path)
        if missing and answer.status == 404:
            return None
        if answer.status != 200:
            raise self._refusal(path, answer)
        return self.decoded(path, answer, kind)

    def pages(self, path: str, query: Mapping[str, object], kind: type[T]) -> Iterator[T]:
        """The pages of one answer; each names its `next`."""
        after: str | None = ""
        while after is not None:
            page = self.get(path, {**query, **({"after": after} if after else {})}, kind)
            assert page is not None  # `missing` is not given
            yield page
            after = getattr(page, "next", None)

    def post(
        self, path: str, body: bytes, within: float = ANSWER_WITHIN, *, accepted: int | None = None
    ) -> ReceivedAnswer:
        """The answer to a POST that was accepted: with this status, else with any 2xx."""
        answer = self._send("POST", path, within, body)
        if answer.status != accepted if accepted is not None else not 200 <= answer.status < 300:
            raise self._refusal(path.partition("?")[0], answer)
        return answer

    def decoded(self, path: str, answer: ReceivedAnswer, kind: type[T], code: int = 7) -> T:
        """The body of an answer, decoded."""
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NoAnswer(code, f"{self.at}{path} answers something else: {error}", NOT_OURS) from error

    def _send(
        self,
        method: Method,
        target: str,
        within: float = ANSWER_WITHIN,
        body: bytes = b"",
        more: Mapping[str, str] = NOTHING,
    ) -> ReceivedAnswer:
        headers = {"Accept": "application/json"} | (
            {"Content-Type": "application/json"} if method in ("POST", "PUT", "PATCH") else {}
        )
        headers |= more
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        answer = self._answer(Request(target, headers, body, within, within, method))
        # a server that starts listens on its port first, and then on its socket; 426: that port has TLS
        denied = (401, 403, 426) if self._socket_first else (401,)
        if answer.status in denied and self._to_socket():
            return self._send(method, target, within, body, more)
        return answer

    def _answer(self, request: Request) -> ReceivedAnswer:
        began, waiting = time.monotonic(), WaitingLine()
        try:
            while True:
                try:
                    answer = self._transport.send(request)
                except Lost as error:
                    why = f"no answer from {self.at}: {error}"
                    waited = time.monotonic() - began
                    if not isinstance(error.__cause__, NOBODY_LISTENS) or waited >= self._starts_within:
                        hint = error.hint or f"is the server running, and is {self._way} right?"
                        raise NoAnswer(7, why, hint, again=True) from error
                    if waiting.live and waited >= SAID_AFTER:
                        waiting(why)
                    time.sleep(ASK_AGAIN)
                    if self._socket_first:
                        self._to_socket()
                else:
                    self._starts_within = 0.0  # it has started: from now on a lost server is said at once
                    return answer
        finally:
            waiting.clear()

    def _refusal(self, path: str, answer: ReceivedAnswer, code: int = 1) -> NoAnswer:
        try:
            refusal = msgspec.json.decode(answer.body, type=_Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError):
            refusal = _Refusal()
        message = plain(refusal.message, WORDS_SHOWN)
        why = message or f"status {answer.status}"
        if answer.status in (401, 403):
            return NoAnswer(5, f"{self.at} refuses: {why}", plain(refusal.hint) or self._refused_hint)
        if answer.status in AGAIN:
            return NoAnswer(7, f"{self.at} is not available: {why}", AGAIN[answer.status], again=True)
        if answer.status == 426:
            return NoAnswer(7, f"{self.at}: {why}", use_tls(self._url, self._token))
        if answer.status == 404 and refusal.identifier is not None:  # the route is there, the node is not
            return NoAnswer(1, message, "cfgsync node list shows the registered nodes")
        if answer.status == 404 and refusal.hint:
            return NoAnswer(1, message, plain(refusal.hint))
        if answer.status == 404 and code == 1:
            if refusal.code != "not_found":
                return NoAnswer(1, f"{self.at} has no {path}", NOT_OURS)
            why = f"{self.at} has no {path}: the server of a bundle has no generations, and no registrations to change"
            return NoAnswer(
                1, why, "edit the bundle, and send the server SIGHUP; cfgsync node list shows its nodes"
            )
        hint = "correct that, and run it again" if message and code == 1 else NOT_OURS
        return NoAnswer(code, f"{self.at}{path} answers {answer.status}: {message or 'no message'}", hint)


class StatusClient(ServerClient):
    """Asks `server`; where it requires a token and none is given, its `admin_socket`, or that of the server on this
    machine. With `as_operator` the socket is asked first: it says what only an operator may read."""

    def __init__(
        self, server: AskedServer, *, as_operator: bool = False, starts_within: float | None = None
    ) -> None:
        super().__init__(server.url, server.token_file, server.admin_socket, as_operator, starts_within)


class OperatorClient(ServerClient):
    """With a token it asks `server`. Else it asks by its `admin_socket`, or by the one of the server on this machine
    that `server` names. Without a socket it asks `server`, which refuses operators there or says why not. Raises `NoAnswer`
    when that is another machine.
    """

    def __init__(self, server: AskedServer) -> None:
        if server.admin_socket == "":
            raise typer.BadParameter("give the path of a socket", param_hint="--admin-socket")
        super().__init__(server.url, server.token_file, server.admin_socket, socket_first=True)
        if server.token_file is not None:
            self._refused_hint = (
                "give an operator's token: cfgsync token list, on the server's machine, lists the tokens"
            )
        elif self._way == "--server":
            if not self._places:
                raise NoAnswer(
                    5,
                    f"{self.at} is another machine, and operator commands work on the server's own only",
                    f"give an operator's token (--token-file), or run it there (ssh {self._url.host} cfgsync …, or kubectl exec)",
                )
            self._refused_hint = (
                f"no admin socket at {' or '.join(self._places)}: run it as the server's user or root,"
                " or give --admin-socket PATH"
            )


class _OneSocket(Addresses):
    """The admin socket at `path` as the one address of its server."""

    def __init__(self, server: ServerUrl, path: str) -> None:
        super().__init__(server)
        self._path = path

    def connected(self, until: float) -> tuple[socket.socket, Address]:
        at = Address(self.servers[0], socket.AF_UNIX, socket.SOCK_STREAM, 0, (self._path,))
        return admin_socket.connected(self._path), at


def _answers(path: str) -> bool:
    with suppress(OSError):
        admin_socket.connected(path).close()
        return True
    return False


def _path(identifier: str) -> str:
    return f"/status/{quote(identifier, safe='')}"
