"""A server does not start behind a real PgBouncer, whatever that is told to overlook: it says why, and what to do."""

from __future__ import annotations

import pytest

from cfgsync_core import StoreRefused
from cfgsync_runtime.backends.engines import open_backend
from tests.pgbouncer import pgbouncer
from tests.postgres import Postgres
from tests.postgres import postgres as postgres

OVERLOOKED = (
    "statement_timeout,lock_timeout,idle_in_transaction_session_timeout,synchronous_commit,extra_float_digits"
)


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("overlooked", ["", OVERLOOKED])
async def test_a_store_behind_a_pooler_is_refused_with_the_reason(
    postgres: Postgres, mode: str, overlooked: str
) -> None:
    with pgbouncer(postgres, mode, overlooked) as port:
        with pytest.raises(StoreRefused, match="a connection pooler") as refused:
            async with open_backend(f"postgresql://cfgsync@127.0.0.1:{port}/postgres?schema={mode}"):
                pass
        assert "give the address of PostgreSQL itself" in refused.value.hint
