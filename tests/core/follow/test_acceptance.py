"""May what was read be applied? Every row of the rule, as a table."""

import pytest

from cfgsync_core import NEVER, Change, Version
from cfgsync_core.follow.acceptance import Accept, Alarm, Confirmed, ReadAgain, Same, Steps, Whole, judge
from cfgsync_core.store.epoch import uuid7

OLD, NOW, NEW = (uuid7(ms) for ms in (1_000, 2_000, 3_000))
HELD = Version(NOW, 10)


def whole(version, digest="d"):
    return Whole(version, digest, "content")


def steps(*revisions, epoch=NOW):
    return Steps(epoch, tuple(Change(revision, "", 0, {}) for revision in revisions))


def test_a_reader_that_holds_nothing_takes_everything_and_only_everything():
    assert judge(None, None, whole(HELD)) == Accept(whole(HELD))
    assert judge(None, None, whole(NEVER)) == Accept(whole(NEVER))
    for answer in (steps(1), Same(HELD)):
        assert judge(None, None, answer) == ReadAgain(True, "nothing is held yet")


def test_inv_6_same_epoch_and_a_lower_revision_is_discarded():
    for answer in (whole(Version(NOW, 9)), Same(Version(NOW, 9)), steps(8, 9)):
        alarm = judge(HELD, HELD, answer)
        assert alarm == Alarm("regressed", HELD, Version(NOW, 9))
        assert str(HELD) in alarm.sentence
        assert str(Version(NOW, 9)) in alarm.sentence


def test_inv_6_same_revision_and_another_digest_is_an_alarm():
    assert judge(HELD, HELD, whole(HELD), lambda: False) == Alarm("forked", HELD, HELD)
    assert judge(HELD, HELD, whole(HELD), lambda: True) == Confirmed()
    assert judge(HELD, HELD, Same(HELD)) == Confirmed()


def test_inv_7_a_new_epoch_is_taken_whole_and_said_and_a_retired_one_is_refused():
    later = Version(NEW, 3)
    accepted = judge(HELD, HELD, whole(later))
    assert accepted == Accept(whole(later), f"a new epoch has begun: {later}, after {HELD}")
    assert judge(HELD, HELD, Same(later)).notice  # the same content by its digest, in a new epoch
    assert isinstance(judge(HELD, HELD, steps(11, epoch=NEW)), ReadAgain)
    for answer in (whole(Version(OLD, 99)), Same(Version(OLD, 99)), steps(11, epoch=OLD), whole(NEVER)):
        assert judge(HELD, HELD, answer) == Alarm("retired", HELD, answer.version)


def test_a_reader_that_resets_takes_a_lost_history_whole_and_names_the_command_and_refuses_a_retired_epoch():
    for answer in (whole(Version(NOW, HELD.revision - 1)), whole(NEVER), whole(HELD)):
        accepted = judge(HELD, HELD, answer, resets=True)
        assert accepted.news is answer
        assert "store new-epoch" in accepted.notice
    retired = whole(Version(OLD, 99))
    assert judge(HELD, HELD, retired, resets=True) == Alarm("retired", HELD, retired.version)
    assert isinstance(judge(HELD, HELD, steps(9), resets=True), Alarm)


def test_inv_10_only_contiguous_steps_are_applied():
    assert judge(HELD, HELD, steps(11, 12)) == Accept(steps(11, 12))
    assert judge(HELD, HELD, steps(9, 10, 11)) == Accept(steps(11))
    for answer in (steps(12), steps(11, 13), steps(11, 11), steps(12, 11)):
        assert judge(HELD, HELD, answer).whole or isinstance(judge(HELD, HELD, answer), Alarm)
    assert judge(HELD, HELD, steps()) == ReadAgain(True, "steps that lead nowhere")


def test_inv_13_what_the_view_has_passed_by_its_own_commits_is_neither_applied_nor_an_alarm():
    now = Version(NOW, 14)
    for answer in (whole(Version(NOW, 12)), steps(11, 12), Same(HELD)):
        assert judge(HELD, now, answer) == Confirmed()
    assert judge(HELD, now, steps(11, 12, 13, 14, 15)) == Accept(steps(15))
    assert judge(HELD, Version(NEW, 1), steps(11)) == ReadAgain(
        False, "the view moved to a new epoch while this was read"
    )


@pytest.mark.parametrize("digest", ["d", "other"])
def test_a_source_without_numbers_is_followed_by_its_digest(digest):
    judged = judge(NEVER, NEVER, whole(NEVER, digest), lambda: digest == "d")
    assert judged == (Confirmed() if digest == "d" else Accept(whole(NEVER, digest)))
