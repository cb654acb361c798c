import asyncio
from itertools import count

import pytest
from shared_engine import open_shared

from cfgsync_runtime.testing import contracts

numbers = count()


def open_empty():
    return open_shared(f"shared:{next(numbers)}", read_only=False, on_fatal=None)


@pytest.mark.parametrize("check", contracts.CHECKS, ids=lambda check: check.__name__)
def test_the_engine(check):
    asyncio.run(check(open_empty))


@pytest.mark.parametrize("check", contracts.DURABLE_CHECKS, ids=lambda check: check.__name__)
def test_the_engine_after_it_was_closed(check):
    name = f"shared:{next(numbers)}"
    asyncio.run(check(lambda: open_shared(name, read_only=False, on_fatal=None)))
