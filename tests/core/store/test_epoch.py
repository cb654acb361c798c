"""Epochs compare in time order, a clock that runs behind never mints an older one, and none takes the last place."""

from __future__ import annotations

import time

import pytest

from cfgsync_core.store.epoch import epoch_ms, mint_epoch, uuid7

LAST = "ffffffff-ffff-7fff-bfff-ffffffffffff"


def test_a_new_epoch_is_later_than_now_and_than_every_one_that_is_known():
    before = time.time_ns() // 1_000_000
    assert epoch_ms(mint_epoch()) >= before
    ahead = uuid7(before + 10**12)
    assert mint_epoch([uuid7(5), ahead, ""]) > ahead
    assert epoch_ms(mint_epoch([ahead])) == before + 10**12 + 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        LAST.upper(),
        LAST,
        "80000000-0000-7000-8000-000000000000",
        "0199a3c2-7d00-4000-8000-000000000000",
    ],
)
def test_what_is_no_epoch_or_leaves_no_room_for_a_later_one_is_none(text: str):
    with pytest.raises(ValueError):
        epoch_ms(text)
    if text:
        with pytest.raises(ValueError):
            mint_epoch([text])


def test_milliseconds_that_do_not_fit_never_wrap_around():
    for milliseconds in (1 << 48, -1):
        with pytest.raises(ValueError):
            uuid7(milliseconds)
