"""`POST /admin/rollout`: what an operator says to the rollout of the current generation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, Literal, get_args

import msgspec

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_adapter.rollout import (
    NotThisGeneration,
    Words,
    halt_to_revert,
    pause,
    promote,
    resume,
    retry,
)
from cfgsync_core import InvalidRequest
from cfgsync_core.server import Body, Call, Operation, Reply, Response, Route, refusal
from cfgsync_core.wire import RequestBody, RolloutStatus

Action = Literal["pause", "resume", "retry", "promote", "revert"]

COMMANDS: Final[Mapping[str, Callable[[Words], Words]]] = {
    "pause": pause,
    "resume": resume,
    "retry": retry,
    "promote": promote,
}
REVERTED_WITHIN: Final = 10.0
"""Seconds that a revert is held until its generation is published."""


class RolloutCommand(msgspec.Struct, frozen=True):
    """The body of `POST /admin/rollout`. `generation` (`<epoch>.<number>`) is the one that the operator saw; for another
    current one the answer is 409. `to` is the number of the generation to go back to, only with `revert`; without it the
    last one that a whole rollout came through."""

    action: Action
    generation: str | None = None
    to: int | None = None


_OPERATION: Final = Operation(
    "Pause, resume, retry, promote or revert the rollout of the current generation",
    {"200": Response((RolloutStatus,), "done, durably; the rollout as it is now")},
    "400 403 409 413 415 422 503 507",
    RolloutCommand,
)


def rollout_routes(source: RegistrationConfigSource) -> list[Route]:
    """The route of one server."""
    body = Body(RequestBody(RolloutCommand).decode)
    handler = partial(_command, source)
    return [Route("POST", "/admin/rollout", handler, "rollout", "operator", body, _OPERATION)]


async def _command(source: RegistrationConfigSource, call: Call) -> Reply:
    wanted: RolloutCommand = call.value
    if wanted.action not in get_args(Action):
        raise InvalidRequest(422, f"action: expected one of {', '.join(get_args(Action))}")
    turns = source.parts.turns
    if turns.policy.mode == "all":
        return refusal(409, "conflict", "this server runs with --rollout all: nodes take no turns")
    decide = COMMANDS.get(wanted.action)
    if decide is None:
        number = _to(source, wanted.to)
        decide = partial(halt_to_revert, number=number)
    try:
        await turns.command(decide, wanted.generation)
    except NotThisGeneration:
        current = source.generation
        what = (
            "there is no generation" if current is None else f"generation {current.number} is the current one"
        )
        return refusal(409, "stale_generation", f"{what} now; look again: cfgsync rollout status")
    if wanted.action == "revert":
        with suppress(TimeoutError):
            async with asyncio.timeout(REVERTED_WITHIN):
                await turns.reverted()
    status = source.fleet(0, "").rollout or RolloutStatus(
        state="idle", generation="" if source.generation is None else source.generation.text
    )
    return Reply(200, (msgspec.json.encode(status),))


def _to(source: RegistrationConfigSource, number: int | None) -> int:
    """The generation to go back to. Raises `InvalidRequest` for one whose files are not held."""
    publisher, current = source.parts.publisher, source.generation
    held = [
        one.number for one in (publisher.stable, publisher.previous) if one is not None and one is not current
    ]
    held = sorted({one for one in held if current is not None and one != current.number})
    stable = publisher.stable
    if number is None and stable is not None and current is not None and stable.number != current.number:
        return stable.number
    if number is not None and number in held:
        return number
    good = [str(one) for one in held if source.parts.turns.outcome_of(one) in ("", "rolled out")]
    those = f"give one of those that are held: {', '.join(good)}" if good else "no other good one is held"
    if number is None:
        raise InvalidRequest(
            422, f"to: no whole rollout came through another generation than the current one; {those}"
        )
    raise InvalidRequest(
        422, f"to: the files of generation {number} are not held, or it is the current one; {those}"
    )
