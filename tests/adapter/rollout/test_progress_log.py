"""What the log says of a halt."""

from __future__ import annotations

from cfgsync_adapter.rollout.progress_log import failures
from cfgsync_adapter.rollout.words import Failed
from cfgsync_core import NEVER


def test_a_halt_is_logged_with_the_end_of_the_last_lines_of_the_program() -> None:
    words = " ".join(f"frame {at}" for at in range(200)) + " ValueError: the port is taken"
    said = failures({"a": Failed(NEVER, "exit 1", words=words)}, with_words=True)
    assert said.startswith("a failed: exit 1; its last lines: frame 0")
    assert said.endswith("ValueError: the port is taken")
    assert len(said) < 400
