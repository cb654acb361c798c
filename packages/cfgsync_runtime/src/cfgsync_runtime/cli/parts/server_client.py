"""One look at `/status`: what a server says of its fleet or of one node, or why it says nothing, as a value."""

from __future__ import annotations

from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from cfgsync_core import CfgsyncError, FleetStatus, Lost, NodeStatus, ServerUrl

from ...node.transport import HttpTransport

ANSWER_WITHIN: Final = 10.0
NOT_OURS: Final = "is this a cfgsync server? check --server"

T = TypeVar("T")


class NoStatus(CfgsyncError):
    """There is no status to show. `code` is the exit code of whoever shows one, `hint` says what to do."""

    def __init__(self, code: int, happened: str, hint: str) -> None:
        super().__init__(happened)
        self.code = code
        self.hint = hint


class StatusClient:
    """Asks one server over one connection. Every method raises `NoStatus`."""

    def __init__(self, carrier: HttpTransport, at: ServerUrl) -> None:
        self._carrier = carrier
        self._at = at

    def body(self, identifier: str | None) -> bytes:
        """What the server says, as it is, once it is known to be a status."""
        path = _path(identifier)
        body = self._asked(path)
        self._decoded(path, body, FleetStatus if identifier is None else NodeStatus)
        return body

    def node(self, identifier: str) -> NodeStatus:
        path = _path(identifier)
        return self._decoded(path, self._asked(path), NodeStatus)

    def fleet(self) -> tuple[FleetStatus, list[NodeStatus]]:
        """The fleet and every node: a server tells at most some of them at once, in the order of their names."""
        fleet = self._page("/status")
        page, nodes = fleet.nodes, list(fleet.nodes)
        while page and len(nodes) < fleet.registered:
            page = self._page(f"/status?after={quote(page[-1].identifier, safe='')}").nodes
            nodes += page
        return fleet, nodes

    def _page(self, path: str) -> FleetStatus:
        return self._decoded(path, self._asked(path), FleetStatus)

    def _decoded(self, path: str, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NoStatus(6, f"{self._at}{path} does not answer a status: {error}", NOT_OURS) from error

    def _asked(self, path: str) -> bytes:
        headers = {"Accept": "application/json"}
        try:
            answer = self._carrier.ask("GET", path, headers, None, ANSWER_WITHIN, ANSWER_WITHIN)
        except Lost as error:
            why = f"no answer from {self._at}: {error}"
            raise NoStatus(7, why, "is the server running, and is --server right?") from error
        if answer.status in (401, 403):
            raise NoStatus(
                5, f"{self._at} refuses to tell: status {answer.status}", "ask who runs the server"
            )
        if answer.status == 503:
            raise NoStatus(7, f"{self._at} cannot now: status 503", "run it again in a moment")
        if answer.status != 200:
            raise NoStatus(7, f"{self._at}{path} answers status {answer.status}", NOT_OURS)
        return answer.body


def _path(identifier: str | None) -> str:
    return "/status" if identifier is None else f"/status/{quote(identifier, safe='')}"
