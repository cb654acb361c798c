"""What a node asks next, told by a virtual clock: every status, every pause, and the end of the time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from cfgsync_artifacts import ArtifactFile, ArtifactSet
from cfgsync_core import Fetched, NodeRegistration, Outcome, Version
from cfgsync_core.node.exchange import Done, Exchange, Pause, Send
from cfgsync_core.node.outcomes import (
    Current,
    MissingForGood,
    NotReadyInTime,
    Refused,
    Rejected,
    Unreachable,
    Untrusted,
)
from cfgsync_core.node.received_answer import ReceivedAnswer
from cfgsync_core.node.requests import Request
from cfgsync_core.wire.payload import encode_files

NODE = NodeRegistration("node-1", "127.0.0.1").with_metadata({"b": 2, "a": 1})
FILES = ArtifactSet([ArtifactFile("/config.yaml", "id: node-1\n")])
EPOCH = "0000000f-4240-7000-8000-000000000000"
LATER = "0000001e-8480-7000-8000-000000000000"
BODY = b'{"schema_version":1,"files":[' + encode_files(FILES) + b"]}"

Reply = ReceivedAnswer | str  # text: the connection is lost, for this reason
Server = Callable[[Request, float], tuple[float, Reply]]  # request and time → seconds until the reply, and it


def said(
    status: int, code: str = "", message: str = "m", headers: dict[str, str] | None = None, **more: object
) -> ReceivedAnswer:
    body = json.dumps({"code": code, "message": message, **more}).encode() if code else b""
    return ReceivedAnswer(status, headers or {}, body)


REGISTERED = ReceivedAnswer(202, {"cfgsync-version": f"{EPOCH}.7"})
HELD = said(425, "not_ready", registered=True, retry_after=0, reason="waiting for 3 nodes, have 1")
UNKNOWN = said(425, "not_ready")
GIVEN = ReceivedAnswer(200, {"etag": f'"{FILES.digest}"', "cfgsync-generation": f"{EPOCH}.3"}, BODY)


class Run:
    """An exchange driven to its end: what was sent and when, and how it ended."""

    def __init__(self, server: Server, *, wait: float = 300.0, seed: int = 7, **more: object) -> None:
        print(f"seed {seed}")
        self.now = 1000.0
        self.sent: list[tuple[float, Request]] = []
        self.pauses: list[float] = []
        self.waited: list[str] = []
        exchange = Exchange(NODE, now=self.now, wait=wait, random=random.Random(seed).random, **more)  # type: ignore[arg-type]
        while not isinstance(step := exchange.next(self.now), Done):
            assert len(self.sent) < 100_000, "it never ends"
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.now += step.seconds
            elif isinstance(step, Send):
                self.sent.append((self.now - 1000.0, step.request))
                seconds, reply = server(step.request, self.now - 1000.0)
                if seconds >= step.request.begin_within:
                    seconds, reply = step.request.begin_within, "no answer in time"
                self.now += seconds
                if isinstance(reply, str):
                    exchange.lost(self.now, reply)
                else:
                    exchange.answered(self.now, reply)
            self.waited.append(exchange.waiting)
        self.outcome: Outcome = step.outcome
        self.took = self.now - 1000.0

    @property
    def paths(self) -> list[str]:
        return [request.path for _, request in self.sent]


def held_for(request: Request) -> float:
    """How long the server may hold this request."""
    return float(request.headers.get("Prefer", "wait=0").removeprefix("wait="))


def replies(*script: Reply) -> Server:
    """The replies one after the other, the last one again and again; each after 1 ms."""
    told: Iterator[Reply] = iter(script)

    def server(request: Request, at: float) -> tuple[float, Reply]:
        return 0.001, next(told, script[-1])

    return server


def registered_then(*script: Reply) -> Server:
    """Registers everybody; plays the script to `/node`."""
    node = replies(*script)
    return lambda request, at: (0.001, REGISTERED) if request.path == "/register" else node(request, at)


def test_only_a_node_that_stays_promises_to_be_heard_of_again() -> None:
    run = Run(replies(REGISTERED, HELD, GIVEN), keepalive=60)
    assert {request.headers["Cfgsync-Keepalive"] for _, request in run.sent} == {"60"}
    run = Run(replies(REGISTERED, HELD, GIVEN))
    assert not any("Cfgsync-Keepalive" in request.headers for _, request in run.sent)


def test_a_ready_node_needs_two_requests_and_no_pause() -> None:
    run = Run(replies(REGISTERED, GIVEN))
    assert run.paths == ["/register", "/node"]
    assert run.pauses == []
    assert isinstance(run.outcome, Fetched)
    assert run.outcome.payload.files == FILES.files
    assert (run.outcome.generation, run.outcome.digest, run.outcome.notice) == (
        f"{EPOCH}.3",
        FILES.digest,
        "",
    )


def test_both_requests_carry_the_same_body_and_the_secret_and_the_question_what_it_needs() -> None:
    run = Run(replies(REGISTERED, GIVEN), secret="s3cret")
    (_, register), (_, node) = run.sent
    assert register.body == node.body == b'{"identifier":"node-1","ip":"127.0.0.1","metadata":{"a":1,"b":2}}'
    assert register.headers == {"Content-Type": "application/json", "Authorization": "Bearer s3cret"}
    assert node.headers == {
        **register.headers,
        "Cfgsync-Accept": "base64, mode",
        "Cfgsync-Version": f"{EPOCH}.7",
        "Prefer": "wait=1",  # soon told why; the next ones are held for 20 s
    }


def test_a_held_question_is_asked_again_at_once_and_without_registering_again() -> None:
    def server(request: Request, at: float) -> tuple[float, Reply]:
        if request.path == "/register":
            return 0.001, REGISTERED
        return (held_for(request), HELD) if at < 100 else (0.001, GIVEN)

    run = Run(server)
    assert run.paths == ["/register"] + ["/node"] * 7
    assert [held_for(request) for _, request in run.sent] == [0, 1, 20, 20, 20, 20, 20, 20]
    assert run.pauses == []


def behind_a_proxy(limit: float, reply: Reply) -> Server:
    """A server that holds each request to its end, and a proxy that ends it after `limit` seconds, with `reply`."""

    def server(request: Request, at: float) -> tuple[float, Reply]:
        if request.path == "/register":
            return 0.001, REGISTERED
        held = held_for(request)
        return (held, HELD) if held < limit else (limit, reply)

    return server


@pytest.mark.parametrize("limit", [3.0, 5.0, 10.0])
@pytest.mark.parametrize(
    "reply", [ReceivedAnswer(504, {}, b"<html>"), ReceivedAnswer(502, {}), "the connection was closed"]
)
def test_a_proxy_that_ends_a_hold_shortens_the_next_ones_and_hides_no_reason(
    limit: float, reply: Reply
) -> None:
    run = Run(behind_a_proxy(limit, reply), wait=120)
    assert set(run.waited[2:]) == {"waiting for 3 nodes, have 1"}
    assert isinstance(run.outcome, NotReadyInTime)
    holds = [held_for(request) for _, request in run.sent if request.path == "/node"]
    assert holds[:3] == [1, 20, 10]
    assert max(holds[5:]) <= limit
    assert sum(hold < limit for hold in holds) > len(holds) / 2


def test_a_hold_grows_again_when_nobody_ends_it_and_a_lost_server_is_first_asked_for_one_second() -> None:
    def server(request: Request, at: float) -> tuple[float, Reply]:
        if request.path == "/register":
            return 0.001, REGISTERED
        if 30 < at < 40:
            return 0.001, "connection refused"
        return (5.0, "reset") if at < 5 and held_for(request) > 5 else (held_for(request), HELD)

    holds = [held_for(request) for _, request in Run(server, wait=200).sent if request.path == "/node"]
    assert holds[:4] == [1, 20, 10, 11]
    assert 1 in holds[4:]
    assert 20 in holds[holds.index(1, 4) :]


def test_an_answer_that_claims_to_have_been_held_but_was_not_is_no_reason_to_spin() -> None:
    run = Run(registered_then(HELD), wait=60)
    assert len(run.sent) < 60
    assert isinstance(run.outcome, NotReadyInTime)


ENDINGS: list[tuple[str, ReceivedAnswer, type, str]] = [
    (
        "missing_config",
        said(404, "missing_config", "missing config for host node-1"),
        MissingForGood,
        "missing config",
    ),
    (
        "frozen",
        said(404, "missing_config", reason="generation 3 is frozen"),
        MissingForGood,
        "generation 3 is frozen",
    ),
    ("401", said(401, "unauthorized"), Refused, "node-1"),
    ("403", said(403, "forbidden"), Refused, "node-1"),
    ("409", said(409, "identity_conflict"), Refused, "node-1"),
    ("400", said(400, "invalid_request", "not JSON"), Rejected, "not JSON"),
    ("405", said(405, "method_not_allowed"), Rejected, "m"),
    ("413", said(413, "invalid_request"), Rejected, "m"),
    ("422", said(422, "invalid_request", "ip: expected an address"), Rejected, "ip: expected an address"),
]


@pytest.mark.parametrize(
    ("reply", "ending", "words"), [row[1:] for row in ENDINGS], ids=[row[0] for row in ENDINGS]
)
@pytest.mark.parametrize("path", ["/register", "/node"])
def test_a_final_status_ends_it_at_once_and_says_what_to_do(
    path: str, reply: ReceivedAnswer, ending: type, words: str
) -> None:
    run = Run(replies(reply) if path == "/register" else registered_then(reply))
    assert type(run.outcome) is ending
    assert run.paths[-1] == path
    assert run.pauses == []
    assert words in run.outcome.message
    assert run.outcome.hint
    assert "\n" not in run.outcome.message + run.outcome.hint


def test_a_refusal_names_how_the_name_is_freed() -> None:
    outcome = Run(replies(said(409, "identity_conflict"))).outcome
    assert "cfgsync node evict node-1" in outcome.hint


STRANGERS: list[ReceivedAnswer] = [
    *(
        ReceivedAnswer(status, {}, b"<html>RBAC: access denied</html>")
        for status in (400, 401, 403, 404, 405, 409)
    ),
    *(said(status, "AccessDenied") for status in (403, 422)),
    *(said(status) for status in (418, 425, 500, 502)),
    ReceivedAnswer(301, {"location": "http://elsewhere/"}),
    ReceivedAnswer(307, {}),
    ReceivedAnswer(304, {}),
    ReceivedAnswer(201, {}),
    ReceivedAnswer(206, {}, BODY),
    ReceivedAnswer(200, {"content-type": "text/html"}, b"<html>back soon</html>"),
    ReceivedAnswer(204, {"content-type": "text/html"}),
]
"""What a mesh, a proxy, a maintenance page or another program answers."""


@pytest.mark.parametrize("reply", STRANGERS, ids=lambda reply: f"{reply.status}-{reply.body[:20].decode()}")
@pytest.mark.parametrize("path", ["/register", "/node"])
def test_what_somebody_else_says_in_cfgsyncs_place_is_waited_out(path: str, reply: ReceivedAnswer) -> None:
    asked: list[float] = []

    def server(request: Request, at: float) -> tuple[float, Reply]:
        if request.path == path and at < 4:
            asked.append(at)
            return 0.001, reply
        return 0.001, REGISTERED if request.path == "/register" else GIVEN

    run = Run(server)
    assert isinstance(run.outcome, Fetched)
    assert len(asked) < 40
    assert f"HTTP {reply.status}" in run.waited[-2]
    assert run.waited[-2].endswith(" that is not from cfgsync; retrying")

    stranger: Server = replies(reply) if path == "/register" else registered_then(reply)
    outcome = Run(stranger, wait=5).outcome
    assert type(outcome) is Unreachable
    assert "is this a cfgsync server?" in outcome.hint


def test_a_stranger_after_cfgsyncs_reason_leaves_that_reason_standing() -> None:
    outcome = Run(registered_then(HELD, ReceivedAnswer(503, {}, b"<html>")), wait=30).outcome
    assert isinstance(outcome, NotReadyInTime)
    assert outcome.reason == "waiting for 3 nodes, have 1"


RETRIED: list[tuple[str, Reply, bool, type]] = [
    ("404 of another code", said(404, "not_found"), False, Unreachable),
    ("408", said(408), False, Unreachable),
    ("425 of an original", UNKNOWN, True, NotReadyInTime),
    ("425 of a stranger", said(425, "not_ready", registered=False), True, NotReadyInTime),
    ("425 of a known node", said(425, "not_ready", registered=True), False, NotReadyInTime),
    ("429", said(429, "rate_limited"), False, Unreachable),
    ("500", said(500, "internal", "failed to materialize config snapshot: boom"), True, NotReadyInTime),
    ("502", said(502), True, Unreachable),
    ("503", said(503, "unavailable"), True, Unreachable),
    ("507", said(507, "unavailable"), True, Unreachable),
    ("599", said(599), True, Unreachable),
    ("lost", "connection refused", True, Unreachable),
]


@pytest.mark.parametrize(
    ("reply", "again", "ending"), [row[1:] for row in RETRIED], ids=[row[0] for row in RETRIED]
)
def test_what_another_try_may_change_is_tried_again_and_registered_first_where_it_may_be_forgotten(
    reply: Reply, again: bool, ending: type
) -> None:
    run = Run(registered_then(reply, reply, GIVEN))
    assert isinstance(run.outcome, Fetched)
    assert run.paths == (["/register", "/node"] * 3 if again else ["/register"] + ["/node"] * 3)

    until_the_end = Run(registered_then(reply), wait=30)
    assert type(until_the_end.outcome) is ending
    assert 29.7 <= until_the_end.took <= 30
    assert until_the_end.outcome.hint
    assert "30 s" in until_the_end.outcome.message


def test_the_reason_of_a_failed_materializer_and_of_an_unready_one_is_what_is_said_at_the_end() -> None:
    failed = Run(
        registered_then(said(500, "internal", "failed to materialize config snapshot: boom")), wait=5
    ).outcome
    assert isinstance(failed, NotReadyInTime)
    assert failed.reason == "failed to materialize config snapshot: boom"
    unready = Run(registered_then(HELD), wait=5).outcome
    assert isinstance(unready, NotReadyInTime)
    assert unready.reason == "waiting for 3 nodes, have 1"


def test_the_hint_fits_what_the_node_waits_for() -> None:
    quorum = {"name": "quorum", "have": 3, "need": 5, "missing": ["node-4"]}
    for more, hint in (
        ({"reason": "x", "conditions": [quorum]}, "start what is missing"),
        ({"reason": "materializing"}, "the materializer has not returned yet"),
    ):
        outcome = Run(registered_then(said(425, "not_ready", registered=True, **more)), wait=2).outcome
        assert outcome.hint.startswith(hint)
    full = said(507, "unavailable", "no space left for /srv/s.db; nothing was written")
    assert Run(registered_then(full), wait=2).outcome.hint.startswith("make room on the server")


def test_who_waits_is_told_how_many_are_here_and_who_is_missing() -> None:
    quorum = {"name": "quorum", "have": 3, "need": 5, "missing": ["node-4", "node-5"]}
    run = Run(registered_then(said(425, "not_ready", registered=True, conditions=[quorum])), wait=2)
    assert run.waited[-1] == "3 of 5 nodes, missing node-4, node-5"
    assert run.outcome.message == "not ready after 2 s: 3 of 5 nodes, missing node-4, node-5"


def test_words_from_the_network_cannot_move_the_cursor() -> None:
    outcome = Run(replies(said(422, "invalid_request", "a\x1b[2Jb\nc" + "x" * 5000))).outcome
    assert "a?[2Jb c" in outcome.message
    assert len(outcome.message) < 800


def test_a_server_that_died_is_unreachable_also_when_it_was_unready_before() -> None:
    outcome = Run(registered_then(UNKNOWN, "connection refused"), wait=30).outcome
    assert isinstance(outcome, Unreachable)
    assert "connection refused" in outcome.message


def test_a_question_that_our_own_deadline_cuts_off_leaves_the_last_reason_standing() -> None:
    def server(request: Request, at: float) -> tuple[float, Reply]:
        if request.path == "/register":
            return 0.001, REGISTERED
        return (0.001, said(425, "not_ready", registered=True, reason="not yet")) if at < 3 else (99, HELD)

    outcome = Run(server, wait=5).outcome
    assert isinstance(outcome, NotReadyInTime)
    assert outcome.reason == "not yet"


# ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(5))
def test_refused_connections_are_tried_every_second_at_first_and_every_five_later(seed: int) -> None:
    run = Run(replies("connection refused"), wait=300, seed=seed)
    starts = [at for at, _ in run.sent]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps[0] <= 0.102
    assert gaps[1] <= 0.202
    assert all(gap <= 1.002 for at, gap in zip(starts, gaps, strict=False) if at < 9.9)
    assert all(gap <= 5.002 for gap in gaps)
    assert max(gaps) > 4, "the cap of five seconds is used"
    assert 10 <= sum(at < 10 for at in starts) <= 40
    assert 300 - 0.26 <= run.took <= 300


def test_the_pause_is_drawn_between_nothing_and_its_bound() -> None:
    first = [Run(replies("refused", REGISTERED, GIVEN), seed=seed).pauses[0] for seed in range(200)]
    assert min(first) < 0.01
    assert 0.09 < max(first) <= 0.1


@pytest.mark.parametrize(
    "reply",
    [
        said(503, "unavailable", headers={"retry-after": "7"}),
        said(429, "rate_limited", headers={"retry-after": "7"}),
        said(425, "not_ready", registered=True, retry_after=7),
        said(425, "not_ready", registered=True, retry_after=1, headers={"retry-after": "7"}),
    ],
)
def test_the_server_says_when_it_wants_to_be_asked_again(reply: ReceivedAnswer) -> None:
    run = Run(registered_then(reply, GIVEN))
    assert len(run.pauses) == 1
    assert 7 <= run.pauses[0] <= 7 * 1.25


def test_no_wish_of_the_server_reaches_beyond_the_deadline_and_one_last_question_fits_in() -> None:
    run = Run(registered_then(said(503, "unavailable", headers={"retry-after": "3600"})), wait=10)
    assert [round(at, 1) for at, _ in run.sent] == [0.0, 0.0, 9.8, 9.8]
    assert run.took <= 10


def test_a_retry_after_that_is_no_number_is_not_obeyed() -> None:
    for value in ("soon", "-5", "1e9", "٣", ""):
        run = Run(registered_then(said(503, "unavailable", headers={"retry-after": value}), GIVEN))
        assert run.pauses[0] <= 0.1


@pytest.mark.parametrize("wait", [0.3, 1.0, 5.0, 20.0, 33.0])
def test_nothing_is_asked_or_held_beyond_the_deadline(wait: float) -> None:
    def server(request: Request, at: float) -> tuple[float, Reply]:
        if request.path == "/register":
            return 0.001, REGISTERED
        return float(request.headers.get("Prefer", "wait=0").removeprefix("wait=")) + 0.001, HELD

    run = Run(server, wait=wait)
    assert run.took <= wait
    assert isinstance(run.outcome, NotReadyInTime)
    for at, request in run.sent:
        assert request.begin_within <= request.end_within <= wait - at + 1e-6
        assert at + float(request.headers.get("Prefer", "wait=0").removeprefix("wait=")) <= wait


@pytest.mark.parametrize("reply", [UNKNOWN, "connection refused", said(503)])
def test_without_waiting_every_question_is_asked_once(reply: Reply) -> None:
    run = Run(registered_then(reply), wait=0)
    assert run.paths == ["/register", "/node"]
    assert "Prefer" not in run.sent[1][1].headers
    assert run.took < 0.1


def test_a_server_that_comes_and_goes_is_never_asked_as_if_it_were_the_first_time() -> None:
    told = iter([said(503), "reset"] * 10_000)
    run = Run(lambda request, at: (0.001, next(told)), wait=60)
    assert len(run.sent) < 60


# ── what may not be written ──────────────────────────────────────────────────────────────────────────────────────────


def ok(body: bytes = BODY, **headers: str) -> ReceivedAnswer:
    return ReceivedAnswer(200, {name.replace("_", "-"): value for name, value in headers.items()}, body)


UNTRUSTED = {
    "a wrong digest": ok(etag='"sha256-' + "0" * 64 + '"'),
    "a digest that is none": ok(etag='"sha256-zz"'),
    "a generation that is none": ok(cfgsync_generation="three"),
    "a generation of no epoch": ok(cfgsync_generation="x.3"),
    "no JSON under our digest": ok(b"<html>", content_type="text/html", etag=f'"{FILES.digest}"'),
    "half a payload": ok(BODY[:-5]),
    "an empty body under our generation": ok(b"", cfgsync_generation=f"{EPOCH}.3"),
    "another schema": ok(BODY.replace(b'version":1', b'version":2')),
    "two files of one path": ok(
        b'{"schema_version":1,"files":[{"path":"a","content":""},{"path":"a","content":""}]}'
    ),
    "a mode beyond 0777": ok(b'{"schema_version":1,"files":[{"path":"a","content":"","mode":"4755"}]}'),
    "an unknown encoding": ok(b'{"schema_version":1,"files":[{"path":"a","content":"","encoding":"rot13"}]}'),
    "a compressed answer": ok(b"\x1f\x8b\x08", content_encoding="gzip", cfgsync_generation=f"{EPOCH}.3"),
    "an answer over the cap": ReceivedAnswer(200, {}, b"", cut=True),
}


@pytest.mark.parametrize("reply", UNTRUSTED.values(), ids=list(UNTRUSTED))
def test_an_answer_that_does_not_hold_together_is_final_and_not_written(reply: ReceivedAnswer) -> None:
    run = Run(registered_then(reply))
    assert type(run.outcome) is Untrusted
    assert run.pauses == []
    assert run.outcome.hint.startswith("nothing was written")
    assert run.outcome.hint.count("nothing was written") == 1


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_registration_whose_answer_is_over_the_cap_is_none(status: int) -> None:
    run = Run(replies(ReceivedAnswer(status, {}, b"", cut=True)))
    assert isinstance(run.outcome, Untrusted)
    assert (run.paths, run.pauses) == (["/register"], [])


@pytest.mark.parametrize(
    ("seen", "answered", "trusted"),
    [
        (Version(EPOCH, 3), f"{EPOCH}.3", True),
        (Version(EPOCH, 3), f"{EPOCH}.4", True),
        (Version(EPOCH, 3), f"{EPOCH}.2", False),
        (Version(EPOCH, 10), f"{EPOCH}.9", False),
        (Version(LATER, 1), f"{EPOCH}.99", False),
        (Version(EPOCH, 99), f"{LATER}.1", True),
        (None, f"{EPOCH}.1", True),
    ],
)
def test_a_node_never_goes_back(seen: Version | None, answered: str, trusted: bool) -> None:
    outcome = Run(registered_then(ok(cfgsync_generation=answered)), seen=seen).outcome
    assert type(outcome) is (Fetched if trusted else Untrusted)
    if isinstance(outcome, Fetched):
        assert ("new epoch" in outcome.notice) is (seen is not None and seen.epoch != answered[:36])
    else:
        assert outcome.hint.count("nothing was written") == 1


def test_an_original_server_without_digest_and_generation_is_taken_as_it_is() -> None:
    outcome = Run(
        replies(ReceivedAnswer(202, {}), ReceivedAnswer(200, {}, BODY)), seen=Version(EPOCH, 3)
    ).outcome
    assert isinstance(outcome, Fetched)
    assert (outcome.generation, outcome.digest) == (None, FILES.digest)


def test_files_that_are_known_may_be_confirmed_instead_of_sent() -> None:
    run = Run(
        registered_then(
            ReceivedAnswer(304, {"etag": f'"{FILES.digest}"', "cfgsync-generation": f"{EPOCH}.3"})
        ),
        known=FILES.digest,
    )
    assert run.sent[1][1].headers["If-None-Match"] == f'"{FILES.digest}"'
    assert run.outcome == Current(f"{EPOCH}.3", FILES.digest)


def test_a_fetch_whose_watcher_registers_never_does_and_waits_for_it_to() -> None:
    run = Run(replies(UNKNOWN, "connection refused", said(500, "internal"), GIVEN), registers=False)
    assert isinstance(run.outcome, Fetched)
    assert run.paths == ["/node"] * 4
    assert run.waited[0].endswith("the watcher of this node registers it")


@pytest.mark.parametrize("header", ["999999999", "99999999999999999999"])
def test_a_server_that_asks_for_days_is_asked_again_after_an_hour(header: str) -> None:
    run = Run(registered_then(said(503, "unavailable", headers={"retry-after": header}), GIVEN), wait=1e6)
    assert len(run.pauses) == 1
    assert 3600 <= run.pauses[0] <= 3600 * 1.25
