"""The engines that the contract is checked on. Another engine is one more parameter."""

import pytest

from tests.postgres import postgres as postgres

pytest.register_assert_rewrite("cfgsync_runtime.testing.contracts")
