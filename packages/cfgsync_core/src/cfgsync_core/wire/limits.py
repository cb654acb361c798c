"""Every limit of the wire, for server, node and materializer.

Limits of paths are in `cfgsync_artifacts.paths`, those of connections in `server/connection/connections.py`.
"""

from __future__ import annotations

from typing import Final

# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────

MAX_BODY_BYTES: Final = 64 * 1024
MAX_REPLACEMENT_BYTES: Final = 16 * 1024 * 1024
MAX_REGISTRATIONS: Final = 1_000_000
"""Nodes of one server; another one is refused until a node leaves."""

MAX_IDENTIFIER: Final = 128
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 32
MAX_JSON_DEPTH: Final = 126
"""Metadata that is nested deeper is not JSON, as for the original's parser."""

MAX_WAIT: Final = 30.0
"""Seconds that a server holds a request at most, whatever `Prefer: wait` asks for."""

MAX_KEEPALIVE: Final = 3_600
"""Seconds that a node may promise to be heard of again within."""

MAX_GROUP_NAME: Final = 64
"""Characters of the name of a group of nodes that take turns among themselves."""

MAX_REASON: Final = 1_000
"""Characters of an acknowledgement's reason. A longer reason is cut and not refused, so that no failure is lost."""

# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

MAX_PAYLOAD_BYTES: Final = 16 * 1024 * 1024
"""Of a body, and of the files in it; a node reads no more of any answer."""

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
MAX_FILES: Final = 1_000
MAX_QUOTES: Final = 64_000
"""Quotation marks without a backslash before them in a payload. A file object has six to sixteen, whatever its text: a
body with more than 1,000 files is refused before it is decoded into objects of many times its size."""

MAX_ERROR_BYTES: Final = 2**21
"""Enough to name ten thousand missing nodes."""

MAX_NOT_READY_CHARACTERS: Final = 4_000
"""Of each text in a NotReady, and of the message of a failed run: every waiting node gets them."""

MAX_PAGE_NODES: Final = 1_000
"""Nodes in one page of an answer."""

MAX_NAMES: Final = 1_000
"""Missing nodes that one condition names, and that `/status` names as data."""
MAX_CONDITIONS: Final = 32
