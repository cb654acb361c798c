"""The limits of the wire: their values, and that no module writes one down a second time."""

from __future__ import annotations

from cfgsync_core.wire import limits


def test_every_limit_is_in_one_place() -> None:
    assert {name: value for name, value in vars(limits).items() if name.startswith("MAX_")} == {
        "MAX_BODY_BYTES": 64 * 1024,
        "MAX_REPLACEMENT_BYTES": 16 * 1024 * 1024,
        "MAX_REGISTRATIONS": 1_000_000,
        "MAX_IDENTIFIER": 128,
        "MAX_METADATA_BYTES": 16 * 1024,
        "MAX_METADATA_DEPTH": 32,
        "MAX_JSON_DEPTH": 126,
        "MAX_WAIT": 30.0,
        "MAX_KEEPALIVE": 3_600,
        "MAX_GROUP_NAME": 64,
        "MAX_REASON": 1_000,
        "MAX_PAYLOAD_BYTES": 16 * 1024 * 1024,
        "MAX_FILE_BYTES": 8 * 1024 * 1024,
        "MAX_FILES": 1_000,
        "MAX_QUOTES": 64_000,
        "MAX_ERROR_BYTES": 2 * 1024 * 1024,
        "MAX_NOT_READY_CHARACTERS": 4_000,
        "MAX_PAGE_NODES": 1_000,
        "MAX_NAMES": 1_000,
        "MAX_CONDITIONS": 32,
    }
