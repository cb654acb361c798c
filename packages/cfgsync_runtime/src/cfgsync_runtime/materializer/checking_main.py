"""The child's side of checks of documents: their schemas, and the validator MODULE:CLASS if there is one.

`python -P -m cfgsync_runtime.materializer.checking_main FD PIPE LOG ACCOUNT TARGET`, as for `child_main`; TARGET may be `""`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from cfgsync_adapter.runs import application_traceback, raised_at, sentence
from cfgsync_core.text import plain
from cfgsync_documents.service import Question, schema_problems, value_problems

from ..errors import InputError
from .child_main import attached, end_a_twin, read, refused
from .loading import DocumentValidator, load_validator
from .messages import Failed, Judged, Loaded, framed

MOST: Final = 10
CUT: Final = 300


def main() -> None:
    """Answer the server at the other end of the socket until it hangs up."""
    line, target = attached()
    with line, line.makefile("rb") as received, suppress(BrokenPipeError, ConnectionResetError):
        pid = os.getpid()
        try:
            try:
                validator = load_validator(target) if target else None
            finally:
                end_a_twin(pid)
        except InputError as error:
            line.sendall(framed(refused(error)))
            return
        line.sendall(framed(Loaded("")))
        while (question := read(received, _question)) is not None:
            try:
                try:
                    answer: Judged | Failed = Judged(_problems(question, validator))
                finally:
                    end_a_twin(pid)
            except BaseException as error:  # SystemExit in a validator is a failed check
                answer = Failed(0, sentence(error), raised_at(error), application_traceback(error))
            line.sendall(framed(answer))


def _problems(question: Question, validator: DocumentValidator | None) -> list[tuple[str, str, str]]:
    found = [(key, *one) for key, schema in question.schemas.items() for one in schema_problems(schema)]
    if not found:
        found = [
            (key, *one) for key, schema, value in question.values for one in value_problems(schema, value)
        ]
    if not found and validator is not None and question.after:
        words = validator.validate(question.scope, _decoded(question.before), _decoded(question.after))
        if not isinstance(words, list | tuple) or not all(isinstance(one, str) for one in words):
            raise TypeError("validate must return a list of strings, empty when the documents hold")
        found = [("", "", plain(one, CUT)) for one in words]
    return found[:MOST]


def _decoded(values: Mapping[str, bytes | None]) -> dict[str, Any]:
    return {key: None if value is None else json.loads(value) for key, value in values.items()}


_question: Final[Callable[[bytes], Question]] = msgspec.msgpack.Decoder(Question).decode


if __name__ == "__main__":
    main()
