"""`cfgsync rollout status --watch` ends when nothing more happens by itself, and says of a failed program what it said last."""

from __future__ import annotations

import msgspec
import pytest
import typer

from cfgsync_core import FleetStatus
from cfgsync_core.wire import FailedNode, RolloutStatus
from cfgsync_runtime.cli.parts.fleet_table import Page, summary
from cfgsync_runtime.cli.rollout import status
from tests.scripted_server import Says, ScriptedServer

GENERATION = "01890a5d-ac96-774b-bcce-b302099a8057.3"
LAST_LINES = " ".join(f"line {at} of a long traceback" for at in range(40)) + " ValueError: the port is taken"


def told(state: str, *failed: FailedNode, in_transition: int = 0) -> Says:
    rollout = RolloutStatus(
        state=state, generation=GENERATION, of=2, in_transition=in_transition, failed=failed
    )
    fleet = FleetStatus(registered=2, waiting=0, generation=GENERATION, rollout=rollout)
    return Says(200, msgspec.json.encode(fleet))


HALTED = told("halted", FailedNode("a", "exit 1", GENERATION))
BEFORE_THE_RETRY = told("halted", FailedNode("a", "exit 1", GENERATION, again=True))
RETRYING = told("halted", FailedNode("a", "exit 1", GENERATION), in_transition=1)


@pytest.mark.parametrize(("end", "code"), [(told("idle"), 0), (HALTED, 1)], ids=["idle", "halted"])
def test_a_watch_goes_on_until_a_retry_has_ended(
    end: Says, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer([BEFORE_THE_RETRY, RETRYING, end]) as server, pytest.raises(typer.Exit) as ended:
        status(watch=True, server=server.url)
    assert ended.value.exit_code == code
    assert "1 in transition" in capsys.readouterr().out


def test_the_status_of_a_halt_keeps_the_end_of_what_failed() -> None:
    rollout = RolloutStatus(state="halted", generation=GENERATION, reason=f"a failed: {LAST_LINES}")
    fleet = FleetStatus(registered=1, waiting=0, generation=GENERATION, rollout=rollout)
    assert "ValueError: the port is taken" in " ".join(" ".join(summary(fleet, Page(80, False))).split())
