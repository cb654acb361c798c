"""Seeds for what a test draws. They come from the seed of the run and the name of the test, so that a test which runs once more
draws the same again. The seed of the run is `CFGSYNC_TESTS_SEED`; pytest's header has it."""

import os
import random
import zlib

RUN = "CFGSYNC_TESTS_SEED"


def seed_of_the_run() -> str:
    """Drawn by the process that asks first; what it starts has the same."""
    return os.environ.setdefault(RUN, str(random.SystemRandom().randrange(10**6)))


def drawn_seed() -> int:
    """The seed of the running test; what a failed test prints has it."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]
    seed = zlib.crc32(f"{seed_of_the_run()} {test}".encode())
    print(f"seed {seed}")
    return seed
