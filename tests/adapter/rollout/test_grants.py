"""Who is given a turn. The numbers RO-… are those of the invariants of a rollout."""

from __future__ import annotations

import pytest

from cfgsync_adapter.rollout.commands import halt_to_revert, pause, promote, resume, retry
from cfgsync_adapter.rollout.grants import granted, needed_beside
from cfgsync_adapter.rollout.policy import Rollout
from cfgsync_adapter.rollout.settlement import passed
from cfgsync_adapter.rollout.words import Asking, Step, Words
from cfgsync_core.wire import Turn

from .words_of import PaperFleet

FIVE = ("a", "b", "c", "d", "e")
TWELVE = tuple(f"n{number:02}" for number in range(12))


def test_ro_1_one_node_at_a_time_changes_by_default() -> None:
    fleet = PaperFleet(FIVE, Rollout())
    fleet.publish()
    assert fleet.roll() == [{"a"}, {"b"}, {"c"}, {"d"}, {"e"}]
    assert fleet.words.record.whole


def test_ro_1_an_answer_is_lost_and_the_same_node_is_answered_again() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    assert (fleet.answer("a"), fleet.answer("a"), fleet.answer("b")) == ("files", "files", "kept")
    assert fleet.grant() == set()


def test_ro_1_a_repeated_acknowledgement_counts_once() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.apply("a")
    once = fleet.words
    fleet.apply("a")
    assert fleet.words == once
    assert once.record.through == {"default": 1}


def test_ro_1_a_failed_node_keeps_its_place() -> None:
    fleet = PaperFleet(TWELVE, Rollout(max_parallel=2, max_failures=1))
    fleet.publish()
    fleet.grant()
    fleet.take("n00")
    fleet.fail("n00")
    assert fleet.phase == "rolling"
    for name in ("n01", "n02", "n03"):
        assert fleet.grant() == {name}
        fleet.take(name)
        fleet.apply(name)
    assert len(fleet.grant()) == 1, "two came through; one place of two is that of the failed node"


def test_ro_1_places_that_failed_nodes_all_hold_halt_the_rollout() -> None:
    fleet = PaperFleet(FIVE, Rollout(max_parallel=1, max_failures=3))
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.fail("a")
    assert fleet.phase == "halted", "nobody else could ever go on"


def test_ro_1_resume_does_not_free_a_turn_that_was_just_given() -> None:
    fleet = PaperFleet(FIVE, Rollout(max_parallel=1))
    fleet.publish()
    fleet.grant()
    fleet.words = resume(fleet.words)
    assert set(fleet.words.turns) == {"a"}
    assert fleet.grant("b") == set()


def test_ro_2_no_wave_is_larger_than_what_came_through() -> None:
    fleet = PaperFleet(TWELVE, Rollout(max_parallel=3))
    fleet.publish()
    assert [len(wave) for wave in fleet.roll()] == [1, 1, 2, 3, 3, 2]


def test_ro_2_groups_take_turns_side_by_side() -> None:
    fleet = PaperFleet(FIVE)
    fleet.groups["d"] = fleet.groups["e"] = "etcd"
    fleet.publish()
    assert fleet.roll() == [{"a", "d"}, {"b", "e"}, {"c"}]


def test_ro_3_a_node_without_files_is_answered_in_every_phase() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.runs["e"] = None  # type: ignore[assignment]
    fleet.grant("a")
    fleet.take("a")
    assert fleet.answer("e") == "files"
    fleet.fail("a")
    assert fleet.phase == "halted"
    assert fleet.answer("e") == "files"
    fleet.words = pause(fleet.words)
    assert fleet.answer("e") == "files"


@pytest.mark.parametrize("max_parallel", [1, 3, "100%"])
def test_ro_4_content_that_fails_everywhere_reaches_one_node(max_parallel: int | str) -> None:
    fleet = PaperFleet(TWELVE, Rollout(max_parallel=max_parallel))
    fleet.publish()
    assert fleet.grant() == {"n00"}
    fleet.take("n00")
    fleet.fail("n00", "unknown flag: --nonsense")
    assert fleet.grant() == set()
    assert fleet.phase == "halted"
    assert fleet.words.record.failed["n00"].reason == "unknown flag: --nonsense"


def test_ro_4_the_same_content_under_a_new_number_has_failed_already() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.fail("a")
    fleet.publish(**dict.fromkeys(FIVE, "d2"))
    assert fleet.grant() == set()
    assert fleet.answer("a") == "unchanged"


def test_ro_4_a_start_is_not_given_what_is_halted() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    assert fleet.answer("b", starts=True) == "files"
    assert fleet.answer("b", turns=False) == "files"
    fleet.grant()
    fleet.take("a")
    fleet.fail("a")
    assert fleet.answer("b", starts=True) == "kept"
    assert fleet.answer("b", turns=False) == "kept"


def test_ro_4_a_canary_stops_after_so_many_and_no_more_are_on_their_way() -> None:
    fleet = PaperFleet(TWELVE, Rollout(max_parallel=5, canary=3))
    fleet.publish()
    assert [len(wave) for wave in fleet.roll()] == [1, 1, 1]
    assert fleet.phase == "canary"
    fleet.words = resume(fleet.words)
    assert sum(len(wave) for wave in fleet.roll()) == 9
    fleet.publish()
    fleet.roll()
    assert fleet.phase == "canary", "a new generation begins its canary anew"


def test_ro_5_a_holder_that_died_fails_at_the_deadline_and_takes_its_turn_when_it_is_back() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    fleet.be_late("a")
    assert fleet.phase == "halted"
    assert fleet.words.record.failed["a"].reason == "no word within 5m"
    assert fleet.grant("b", "c") == set()
    assert fleet.grant("a", "b") == {"a"}
    fleet.take("a")
    fleet.apply("a")
    assert fleet.phase == "rolling"
    fleet.roll()
    assert fleet.words.record.whole


def test_ro_5_a_late_word_ends_the_halt_too() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.be_late("a")
    fleet.apply("a")
    assert fleet.phase == "rolling"
    assert fleet.words.turns == {}


def test_ro_5_a_turn_that_a_steady_node_lets_pass_ends() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant("a")
    fleet.words = passed(fleet.words, ["a"])
    assert fleet.grant("b") == {"b"}


def test_ro_5_a_steady_node_that_has_the_files_of_its_turn_has_ended_it() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant("a")
    fleet.publish(a="d1")
    assert fleet.answer("a") == "unchanged"
    fleet.settle("a")
    assert fleet.words.turns == {}


def test_ro_7_nobody_is_given_reverted_content_and_who_kept_the_old_is_not_disturbed() -> None:
    fleet = PaperFleet(FIVE, Rollout(max_parallel=2, canary=1))
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.apply("a")
    fleet.words = resume(fleet.words)
    fleet.grant()
    fleet.take("b")
    fleet.fail("b")
    fleet.words = halt_to_revert(fleet.words, 1)
    fleet.publish(reverts=1, **dict.fromkeys(FIVE, "d1"))
    assert fleet.phase == "rolling"
    assert {fleet.answer(name) for name in "cde"} == {"unchanged"}
    assert fleet.grant() == {"a", "b"}, "no canary and no slow start"
    for name in "ab":
        fleet.take(name)
        fleet.apply(name)
    assert fleet.words.record.whole
    assert set(fleet.runs.values()) == {"d1"}


def test_ro_7_a_generation_between_a_revert_and_its_content_stays_halted() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.words = halt_to_revert(fleet.words, 1)
    fleet.publish()
    assert fleet.phase == "halted"
    assert fleet.grant() == set()


def test_ro_8_a_fix_is_tried_first_where_it_is_needed_and_ends_the_halt() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant("c")
    fleet.take("c")
    fleet.fail("c")
    fleet.publish()
    assert fleet.grant() == {"c"}
    fleet.take("c")
    fleet.fail("c")
    assert fleet.grant() == set(), "bad again"
    fleet.publish()
    assert fleet.grant() == {"c"}
    fleet.take("c")
    fleet.apply("c")
    assert fleet.phase == "rolling"
    assert len(fleet.roll()) == 4


def test_ro_8_failed_nodes_that_hold_every_place_do_not_wait_for_each_other() -> None:
    fleet = PaperFleet(FIVE, Rollout(max_parallel="40%", max_failures=2))
    fleet.publish()
    for name in "ab":
        fleet.grant(name)
        fleet.take(name)
        fleet.fail(name)
    for name in "cde":
        fleet.expire(name)  # one place is left in a group of two
    fleet.publish()
    assert len(fleet.grant("a", "b")) == 1


def test_ro_9_the_farthest_behind_goes_first() -> None:
    fleet = PaperFleet(FIVE)
    turns = []
    for _ in range(10):
        fleet.publish()
        [name] = fleet.grant()
        turns.append(name)
        fleet.take(name)
        fleet.apply(name)
    assert turns == [*FIVE, *FIVE]


def test_ro_9_a_node_on_trial_is_not_given_the_next_one_before_it_is_healthy() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.publish()
    assert fleet.grant() == set()
    assert fleet.answer("a") == "kept"
    fleet.apply("a")
    assert fleet.grant() == {"b"}


def test_ro_8_a_fix_reaches_one_that_was_left_behind_on_files_that_it_cannot_take_back() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.fail("a")
    fleet.mark["a"] = "trial"  # its --reload-command failed, and is tried for ever
    fleet.words = resume(fleet.words)
    assert fleet.grant("a") == set(), "the same files"
    fleet.publish()
    assert fleet.grant() == {"a"}, "a failed one first"


def test_resume_ends_what_stops_it_now_and_not_the_canary_that_is_to_come() -> None:
    fleet = PaperFleet(FIVE, Rollout(max_parallel=2, canary=1))
    fleet.words = pause(fleet.words)
    fleet.publish()
    fleet.words = resume(fleet.words)
    fleet.grant()
    fleet.take("a")
    fleet.apply("a")
    assert fleet.phase == "canary"
    fleet.words = pause(fleet.words)
    fleet.words = resume(fleet.words)
    assert fleet.phase == "canary", "it waits as it did before the pause"
    fleet.words = resume(fleet.words)
    assert fleet.grant() == {"b"}


def test_ro_10_an_expiry_never_ends_a_halt() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.fail("a")
    fleet.expire("a")
    fleet.settle()
    assert fleet.phase == "halted"
    assert fleet.grant() == set()
    fleet.words = resume(fleet.words)
    assert list(fleet.words.record.left_behind) == ["a"]
    assert fleet.grant() == {"b"}


def test_a_failed_node_that_was_left_behind_is_named_until_it_is_through() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.fail("a")
    fleet.words = resume(fleet.words)
    assert len(fleet.roll()) == 4
    assert not fleet.words.record.whole
    fleet.publish()
    assert fleet.grant() == {"a"}
    fleet.take("a")
    fleet.apply("a")
    assert fleet.words.record.left_behind == {}


def test_retry_gives_the_same_files_to_the_failed_node_once_more_and_to_nobody_else() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.grant()
    fleet.take("a")
    fleet.fail("a")
    fleet.words = retry(fleet.words)
    assert fleet.grant() == {"a"}
    assert fleet.answer("a") == "files", "though it names them: it has refused them"
    fleet.mark["a"] = "trial"
    fleet.fail("a")
    assert fleet.phase == "halted"
    assert fleet.answer("a") == "unchanged"
    fleet.words = retry(fleet.words)
    fleet.grant()
    fleet.take("a")
    fleet.apply("a")
    assert fleet.phase == "rolling"


def test_promote_and_at_once_are_for_everybody_now() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.words = promote(fleet.words)
    assert {fleet.answer(name) for name in FIVE} == {"files"}
    fleet.publish(at_once=True)
    assert {fleet.answer(name) for name in FIVE} == {"files"}
    fleet.publish()
    assert {fleet.answer(name) for name in FIVE} == {"kept"}


def test_a_failure_of_a_node_that_started_with_new_files_halts_too() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    assert fleet.answer("d", starts=True) == "files"
    fleet.runs["d"] = "d2"
    fleet.fail("d")
    assert fleet.phase == "halted"


def test_a_failure_long_after_everybody_came_through_halts_nothing() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.roll()
    fleet.fail("d", "disk full")
    assert fleet.phase == "rolling"


def test_a_pause_stays_when_a_new_generation_comes() -> None:
    fleet = PaperFleet(FIVE)
    fleet.words = pause(fleet.words)
    fleet.publish()
    assert (fleet.phase, fleet.grant()) == ("paused", set())
    assert fleet.answer("a", starts=True) == "kept"
    fleet.words = resume(fleet.words)
    assert fleet.grant() == {"a"}


def test_the_others_that_are_present_stay_a_majority() -> None:
    fleet = PaperFleet(FIVE)
    fleet.present = {"a", "b", "c"}
    fleet.publish()
    assert fleet.grant() == {"d"}, "beside it three of five are here; beside the others only two"
    fleet.take("d")
    fleet.apply("d")
    assert fleet.grant("a", "b", "c") == set()
    fleet.present = {"a", "b", "c", "d"}
    assert fleet.grant("a", "b", "c") == {"a"}
    assert [needed_beside(nodes) for nodes in range(1, 8)] == [0, 1, 2, 3, 3, 4, 4]


def test_a_node_that_the_server_has_never_heard_acknowledge_is_given_a_turn() -> None:
    fleet = PaperFleet(FIVE)
    fleet.publish()
    fleet.present = {"new"}
    fleet.groups = {}
    asking = Asking("new", "d2", "d1", Turn("default", "steady"))
    fleet.words = granted(fleet.words, fleet.fleet(), fleet.policy, [asking])
    assert list(fleet.words.turns) == ["new"]


def test_a_step_is_the_difference_and_none_without_one() -> None:
    before = Words()
    assert Step.between(before, before) is None
    fleet = PaperFleet(FIVE)
    fleet.publish()
    before = fleet.words
    fleet.grant()
    step = Step.between(before, fleet.words)
    assert step is not None
    assert list(step.turns) == ["a"]
    assert step.state.steps == before.record.steps + 1, (
        "each commit changes `state`, which the next one expects"
    )
