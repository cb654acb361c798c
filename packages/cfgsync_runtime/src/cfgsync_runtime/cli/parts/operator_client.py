"""How the operator's commands ask a server: one place for its URL, its refusals, and pages that follow each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, NoReturn, TypeAlias, TypeVar
from urllib.parse import urlencode

import msgspec
import typer

from cfgsync_core import InvalidServerUrl, Lost, ReceivedAnswer, ServerUrl, plain

from ...node.transport import HttpTransport
from .messages import fail

ANSWER_WITHIN: Final = 30.0
NOT_OURS: Final = "is this a cfgsync server, and a new one? check --server"
DEFAULT_SERVER: Final = "http://127.0.0.1:4400"
WORDS_SHOWN: Final = 2_000

T = TypeVar("T")

Server: TypeAlias = Annotated[
    str, typer.Option("--server", metavar="URL", envvar="CFGSYNC_SERVER", help="The server's URL.")
]
AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", envvar="CFGSYNC_JSON", help="Print one JSON object.")
]


class _Refusal(msgspec.Struct, frozen=True):
    message: str = ""
    identifier: str | None = None


class OperatorClient:
    """Asks the operator's routes of one server: `with Operator("http://127.0.0.1:4400") as operator:`.

    Whatever is no answer ends the command: exit 2 for a URL that is none, 5 when it is refused, 7 when nobody answers,
    1 when the answer is no.
    """

    def __init__(self, server: str) -> None:
        try:
            self._at = ServerUrl.parse(server)
        except InvalidServerUrl as error:
            raise typer.BadParameter(str(error), param_hint="--server") from error
        self._carrier = HttpTransport(self._at)

    def __enter__(self) -> OperatorClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._carrier.close()

    def get(
        self, path: str, query: Mapping[str, object], kind: type[T], *, missing: bool = False
    ) -> T | None:
        """The words of a 200. With `missing` a 404 is None."""
        target = f"{path}?{urlencode(dict(query))}" if query else path
        answer = self._ask("GET", target, None, ANSWER_WITHIN)
        if missing and answer.status == 404:
            return None
        if answer.status != 200:
            self._refused(path, answer)
        return self._decoded(path, answer, kind)

    def pages(self, path: str, query: Mapping[str, object], kind: type[T]) -> Iterator[T]:
        """The pages of one answer; each names its `next`."""
        after: str | None = ""
        while after is not None:
            page = self.get(path, {**query, **({"after": after} if after else {})}, kind)
            assert page is not None  # asked without `missing`
            yield page
            after = getattr(page, "next", None)

    def post(
        self, path: str, body: bytes, within: float = ANSWER_WITHIN, *, accepted: int | None = None
    ) -> ReceivedAnswer:
        """The answer to a POST that was accepted: with this status, else with any 2xx."""
        answer = self._ask("POST", path, body, within)
        if answer.status != accepted if accepted is not None else not 200 <= answer.status < 300:
            self._refused(path.partition("?")[0], answer)
        return answer

    def decoded(self, path: str, answer: ReceivedAnswer, kind: type[T]) -> T:
        """The words of an answer."""
        return self._decoded(path, answer, kind)

    def _ask(self, method: str, target: str, body: bytes | None, within: float) -> ReceivedAnswer:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            return self._carrier.ask(method, target, headers, body, within, within)
        except Lost as error:
            why = f"no answer from {self._at}: {error}"
            raise typer.Exit(fail(7, why, "is the server running, and is --server right?")) from error

    def _decoded(self, path: str, answer: ReceivedAnswer, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            why = f"{self._at}{path} does not answer what it should: {error}"
            raise typer.Exit(fail(7, why, NOT_OURS)) from error

    def _refused(self, path: str, answer: ReceivedAnswer) -> NoReturn:
        try:
            refusal = msgspec.json.decode(answer.body, type=_Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError):
            refusal = _Refusal()
        said = plain(refusal.message, WORDS_SHOWN)
        if answer.status in (401, 403):
            raise typer.Exit(fail(5, f"{self._at} refuses: {said or answer.status}", "run it there"))
        if answer.status == 404 and refusal.identifier is not None:  # the route is there, the node is not
            raise typer.Exit(fail(1, said, "cfgsync node list shows who is registered"))
        if answer.status == 404:
            why = f"{self._at} has no {path}; a static source has nothing to operate"
            raise typer.Exit(fail(1, why, NOT_OURS))
        if answer.status == 503:
            raise typer.Exit(fail(7, f"{self._at} cannot now: {said}", "run it again in a moment"))
        why = f"{self._at}{path} answers {answer.status}: {said or 'no words'}"
        raise typer.Exit(fail(1, why, "mend that, and run it again" if said else NOT_OURS))
