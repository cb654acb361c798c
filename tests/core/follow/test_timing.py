"""When a reader reads next, and how far it can be believed: on a clock that is a number."""

from random import Random

import pytest

from cfgsync_core.follow.timing import Freshness, ReaderState


def fresh(seed=3, **words):
    print("seed", seed)
    return Freshness(random=Random(seed).random, **words)


def test_the_states_of_a_reader_that_finds_its_source():
    f = fresh()
    assert f.state(0) is ReaderState.NEW
    f.began(0)
    assert f.state(0) is ReaderState.SYNCING
    f.confirmed(1)
    assert f.state(1) is ReaderState.CURRENT
    f.hinted(2)
    assert f.state(2) is ReaderState.STALE
    f.began(2)
    assert f.state(2) is ReaderState.STALE
    f.confirmed(3)
    assert f.state(3) is ReaderState.CURRENT
    f.began(4)
    f.failed(5, "away")
    assert f.state(5) is ReaderState.STALE
    assert f.state(2 + 60) is ReaderState.STALE
    assert f.state(2 + 60.1) is ReaderState.DEGRADED  # since the read that confirmed began


@pytest.mark.parametrize(("holds", "state"), [(True, ReaderState.DEGRADED), (False, ReaderState.NOT_READY)])
def test_inv_14_who_never_reached_its_source_is_never_current(holds, state):
    f = fresh(holds=holds)
    f.hinted(0)
    assert f.state(0) is ReaderState.NEW
    f.began(0)
    f.hinted(0.5)
    f.failed(1, "away")
    assert f.state(1) is state


def test_a_view_that_is_not_confirmed_by_a_read_that_hangs_goes_degraded_by_itself():
    f = fresh(ttl=10)
    f.began(0)
    f.confirmed(0)
    f.began(8)
    assert f.state(9) is ReaderState.CURRENT
    assert f.state(10.5) is ReaderState.DEGRADED


def test_inv_5_a_burst_of_hints_is_two_reads():
    f = fresh()
    f.began(0)
    f.confirmed(0.001)
    reads, now = 0, 5.0
    while now < 5.3:
        if now < 5.045:
            f.hinted(now)  # one each millisecond, for 45 ms
        if f.due_in(now) == 0:
            reads += 1
            f.began(now)
            f.confirmed(now)
        now += 0.001
    assert reads == 2


def test_a_hint_while_a_read_is_under_way_is_one_more_read_however_many_came():
    f = fresh()
    f.began(0)
    for number in range(100):
        f.hinted(number / 1000)
    f.confirmed(0.2)
    assert f.due_in(0.2) == 0
    assert f.state(0.2) is ReaderState.STALE
    f.began(0.2)
    f.confirmed(0.2)
    assert f.due_in(0.3) > 0


def test_inv_4_polls_come_after_an_interval_and_a_tenth_at_the_latest_counted_from_the_last_reads_begin():
    f = fresh()
    now = 0.0
    for number in range(1000):
        f.began(now)
        f.confirmed(now + 0.4)
        due = now + 0.4 + f.due_in(now + 0.4)
        assert due <= now + 16.5 + 1e-6
        assert not number or due >= now + 13.5 - 1e-6
        now = due


def test_failures_back_off_to_five_seconds_and_never_beyond_the_interval():
    for interval, cap in ((15.0, 5.0), (1.0, 1.0)):
        f, now, waits = fresh(interval=interval), 0.0, []
        for _ in range(40):
            f.began(now)
            f.failed(now, "away")
            waits.append(f.due_in(now))
            now += waits[-1]
        assert max(waits[:3]) <= 0.4
        assert cap * 0.8 < max(waits) <= cap


def test_retry_after_is_obeyed_and_up_to_a_quarter_more():
    f = fresh()
    f.began(0)
    f.failed(0, "full", 8.0)
    assert 8.0 <= f.due_in(0) <= 10.0


def test_a_source_that_never_joins_on_is_asked_like_one_that_fails():
    f, now = fresh(), 0.0
    f.began(now)
    f.must_read_again(now, "a gap", whole=True)
    assert (f.due_in(now), f.whole, f.state(now)) == (0, True, ReaderState.NOT_READY)
    reads = 0
    while now < 60:
        now += f.due_in(now)
        f.began(now)
        f.must_read_again(now, "a gap", whole=True)
        reads += 1
    assert reads < 60


def test_what_is_refused_is_asked_again_after_an_interval_and_then_whole():
    f = fresh(holds=True)
    f.began(0)
    f.confirmed(0)
    f.began(20)
    f.refused(20, "history was lost")
    assert f.whole
    assert 13.5 <= f.due_in(20) <= 16.5


def test_inv_17_a_thousand_readers_that_start_together_spread_their_polls():
    random = Random(17)
    polls = []
    for _ in range(5000):
        f, now = Freshness(random=random.random), 0.0
        f.began(now)
        f.confirmed(now)
        while (now := now + f.due_in(now)) < 60:
            polls.append(now)
            f.began(now)
            f.confirmed(now)
    mean = len(polls) / 600
    most = max(sum(1 for poll in polls if tick <= poll * 10 < tick + 1) for tick in range(0, 600, 7))
    assert most < 1.5 * mean


def test_inv_17_held_reads_are_spread_too_although_the_wire_counts_whole_seconds():
    random = Random(18)
    ends = []
    for _ in range(5000):
        f, now = Freshness(random=random.random, held_reads=True), 0.0
        f.began(now)
        f.confirmed(now)
        now += f.due_in(now)
        while now < 60:
            f.began(now)
            now += int(f.hold)  # as a header can say it
            f.confirmed(now)
            ends.append(now)
            now += f.due_in(now)
    mean = len([end for end in ends if end < 60]) / 600
    most = max(sum(1 for end in ends if tick <= end * 10 < tick + 1) for tick in range(10, 600, 7))
    assert most < 3 * mean


def test_a_held_read_follows_the_one_before_at_once_and_one_that_was_not_held_waits_its_interval():
    f = fresh(held_reads=True)
    f.began(0)
    assert f.hold == 0  # where it stands, at once
    f.confirmed(0.01)
    assert f.due_in(0.01) <= 1.0
    f.began(1)
    assert f.hold >= 1
    f.confirmed(1 + f.hold)
    assert f.due_in(16) == 0
    f.began(16)
    f.confirmed(16.01)  # a server that ignores `Prefer`
    assert f.due_in(16.01) > 13
    f.began(30)
    f.confirmed(30.2, changed=True)
    assert f.due_in(30.2) == 0
    f.began(31)
    f.failed(31, "away")
    assert f.hold == 0  # it wants to know where it stands
