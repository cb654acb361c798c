"""A watching node that takes turns: what it names, what an answer confirms, and what is reported for it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from cfgsync_core import AppliedFiles, Fetched, NodeRegistration, NodeWatch, Version
from cfgsync_core.node import NodeTurn, RefusedFiles
from cfgsync_core.node.received_answer import ReceivedAnswer
from cfgsync_core.node.requests import Request
from tests.core.node.watch.test_node_watch import EPOCH, ONE, Server, of, until

NODE = NodeRegistration("node-1", "127.0.0.1")


class Taker:
    """The node's side of turns as `cfgsync fetch` has it: new files are on trial; `refuses` those with this text."""

    def __init__(self, server: Server, refuses: str = "") -> None:
        self.server = server
        self.refuses = refuses
        self.turn = NodeTurn("default")
        self.is_stuck = False  # questions are never answered
        self.asked: list[tuple[str | None, str | None, str | None]] = []
        self.watch = NodeWatch(
            NODE, self.send, self.apply, held=ONE, interval=0.4, turn=self.turn,
            is_used=lambda _: not self.turn.trial,
        )  # fmt: skip

    async def send(self, request: Request) -> ReceivedAnswer:
        if request.path == "/node":
            headers = request.headers
            self.asked.append(
                (headers.get("Cfgsync-Turn"), headers.get("If-None-Match"), headers.get("Prefer"))
            )
        if request.path == "/node" and self.is_stuck:
            await asyncio.Event().wait()
        return await self.server.send(request)

    async def apply(self, fetched: Fetched) -> None:
        if fetched.payload.files[0].content == self.refuses:
            self.turn.refused = RefusedFiles(fetched.generation, fetched.digest, "no")
        else:
            self.turn.trial, self.turn.refused = fetched.digest, None

    def go_back(self, why: str) -> None:
        assert self.watch.held is not None
        self.turn.refused = RefusedFiles(str(self.watch.held.version), self.turn.trial, why)
        self.turn.trial = ""
        self.watch.took_back(ONE)


def named(text: str) -> str:
    return f'"{of(text).digest}"'


async def test_every_question_of_a_running_node_may_be_held_so_that_none_is_taken_for_a_start() -> None:
    taker = Taker(Server("one\n"))
    async with taker.watch:
        await until(lambda: len(taker.asked) >= 2)
    assert all(prefer is not None for _, _, prefer in taker.asked)
    assert {(turn, name) for turn, name, _ in taker.asked} == {("default; steady", named("one\n"))}


async def test_files_that_are_taken_back_while_a_request_is_held_stay_taken_back_when_it_is_answered() -> (
    None
):
    server = Server("one\n")
    taker = Taker(server)
    async with taker.watch as watch:
        await until(lambda: len(taker.asked) >= 2)
        server.serve("two\n")
        trial = ("default; trial", named("two\n"))
        await until(lambda: taker.asked[-1][:2] == trial)
        asked = len(taker.asked)
        taker.go_back("it died")
        await watch.acknowledge(server.send)
        assert (server.acks[-1].status, server.acks[-1].reason, server.acks[-1].group) == (
            "failed",
            "it died",
            "default",
        )
        server.wake()  # the answer is about the files of the trial
        await until(lambda: len(taker.asked) > asked)
        assert taker.asked[-1][:2] == ("default; refused", named("two\n"))
        assert watch.held == ONE
        server.serve("three\n")
        await until(lambda: watch.held != ONE)
        assert watch.held == AppliedFiles(Version(EPOCH, 3), of("three\n").digest)
        taker.turn.trial = ""
        await watch.acknowledge(server.send)
    assert [ack.status for ack in server.acks if ack.generation == f"{EPOCH}.2"] == ["failed"]
    assert server.acks[-1].status == "applied"


async def test_files_that_a_node_refuses_are_named_and_reported_and_the_old_ones_are_not() -> None:
    server = Server("one\n")
    taker = Taker(server, refuses="two\n")
    async with taker.watch as watch:
        await until(lambda: len(taker.asked) >= 2)
        server.serve("two\n")
        await until(lambda: taker.asked[-1][:2] == ("default; refused", named("two\n")))
        server.serve("two\n")  # the same content under another number has been refused already
        server.wake()
        await asyncio.sleep(0.1)
        assert watch.held == ONE
        reports = [(ack.status, ack.digest) for ack in server.acks if ack.generation != f"{EPOCH}.1"]
        assert set(reports) == {("failed", of("two\n").digest)}
        assert server.acks[-1].status == "failed"


@pytest.mark.parametrize("way", ["taken back", "not installed"])
async def test_files_that_are_given_once_more_and_fail_as_before_are_reported_once_more(way: str) -> None:
    server = Server("one\n")
    taker = Taker(server, refuses="two\n" if way == "taken back" else "")
    gives_again = False

    async def send(request: Request) -> ReceivedAnswer:
        nonlocal gives_again
        if request.path == "/node" and gives_again:  # as after `rollout retry`
            gives_again = False
            headers = {name: text for name, text in request.headers.items() if name != "If-None-Match"}
            request = msgspec.structs.replace(request, headers=headers)
        return await taker.send(request)

    async def apply(fetched: Fetched) -> None:
        if way == "not installed" and fetched.payload.files[0].content == "two\n":
            raise OSError("no space left")
        await taker.apply(fetched)

    def failures() -> int:
        return sum(ack.status == "failed" for ack in server.acks)

    watch = NodeWatch(NODE, send, apply, held=ONE, interval=0.4, turn=taker.turn, is_used=lambda _: True)
    async with watch:
        await until(lambda: len(taker.asked) >= 2)
        server.serve("two\n")
        await until(lambda: failures() == 1)
        for times in (2, 3):
            gives_again = True
            server.wake()
            await until(lambda times=times: failures() == times)  # type: ignore[misc]
        asked = len(taker.asked)
        await until(lambda: len(taker.asked) > asked + 2)
        assert failures() == 3, "what it was not given is not reported again"


async def test_an_answer_that_it_is_not_the_nodes_turn_says_for_which_generation_it_waits() -> None:
    server = Server("one\n")
    taker = Taker(server)

    async def waiting(request: Request) -> ReceivedAnswer:
        if request.path != "/node":
            return await server.send(request)
        await asyncio.sleep(0.05)
        return ReceivedAnswer(304, {"etag": named("one\n"), "cfgsync-next": f"{EPOCH}.7"})

    watch = NodeWatch(NODE, waiting, taker.apply, held=ONE, interval=0.4, turn=taker.turn)
    async with watch:
        await until(lambda: watch.waits_for == f"{EPOCH}.7")
        assert watch.held == ONE


async def test_a_held_request_that_tells_of_a_trial_is_sent_again_when_the_trial_has_ended() -> None:
    server = Server("one\n")
    taker = Taker(server)
    async with taker.watch as watch:
        await until(lambda: len(taker.asked) >= 2)
        server.serve("two\n")
        await until(lambda: taker.asked[-1][0] == "default; trial")
        taker.is_stuck = True
        asked = len(taker.asked)
        server.wake()
        await until(lambda: len(taker.asked) > asked)
        watch.turn_has_changed()
        asked = len(taker.asked)
        await asyncio.sleep(0.1)
        assert len(taker.asked) == asked, "it tells of the trial, which is not over"
        taker.turn.trial = ""
        watch.turn_has_changed()
        await until(lambda: len(taker.asked) > asked)
        assert taker.asked[-1][:2] == ("default; steady", named("two\n"))
