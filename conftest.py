"""Which tests share something costly, so that one of pytest's workers runs them all, and which begin first."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator

import pytest

# The tests whose `assert`s are rewritten are kept, whatever the shell says of bytecode: they cost each worker 13 s.
if "PYTEST_XDIST_WORKER" in os.environ:
    sys.dont_write_bytecode = False

from hypothesis import settings  # its modules, too, are rewritten

from tests.seeds import RUN, seed_of_the_run

for _signal in (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
):  # under nohup, or behind `&`, ours is to ignore them
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.default_int_handler if _signal == signal.SIGINT else signal.SIG_DFL)

settings.register_profile("cfgsync", deadline=None)  # how long an example takes is the machine's matter
settings.load_profile("cfgsync")

TOGETHER = (
    "tests/distributions/",  # wheels and environments
    "tests/architecture/test_doors.py",  # the parsed modules
    "tests/docs/test_build.py",  # the built pages
    "tests/end_to_end/test_page_in_a_browser.py",  # one browser
)
"""Each is run by one worker. xdist's own groups do nothing with pytest 9.2, which ignores the name that xdist gives an item."""

LONG = ("tests/chaos/", "tests/docs/", "tests/end_to_end/", "examples/")
"""These begin first, so that at the end no worker has a long one alone."""


SEED = seed_of_the_run()  # before there are workers, which have it from this process


def pytest_report_header() -> str:
    return f"{RUN}={SEED}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        """A test alone, but for those of one place."""

        def _split_scope(self, nodeid: str) -> str:
            return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)

    return Together(config, log)


@pytest.fixture(autouse=True)
def _levels_of_the_log() -> Iterator[None]:
    """A command that a test runs in its own process changes them."""
    loggers = {logger: logger.level for logger in (logging.getLogger(), logging.getLogger("cfgsync"))}
    yield
    for logger, level in loggers.items():
        logger.setLevel(level)
