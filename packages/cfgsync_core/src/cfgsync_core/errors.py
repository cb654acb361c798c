"""What can go wrong between a node, a server and a store; each error carries facts and names the next step."""

from __future__ import annotations

from cfgsync_artifacts import CfgsyncError


class InvalidRequest(CfgsyncError, ValueError):
    """Bytes that are not an acceptable request. `status` is 400 (not JSON), 413 (too large), 415 (another content
    type) or 422 (well-formed but wrong; the message begins with the field)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class InvalidRegistration(InvalidRequest):
    """A value of a registration that breaks its rule: `field` is `identifier`, `ip` or `metadata`."""

    def __init__(self, field: str, why: str, status: int = 422) -> None:
        super().__init__(status, f"{field}: {why}")
        self.field = field
        self.why = why


class MetadataMismatch(CfgsyncError, ValueError):
    """A node's metadata is not what the application expected; the message names node and field."""

    def __init__(self, identifier: str, why: str) -> None:
        super().__init__(f"metadata of node {identifier}: {why}")
        self.identifier = identifier


class MaterializationFailed(CfgsyncError):
    """The materializer or its sink raised. `cause` has the words in full, for the log and for operators, since an
    application's may hold a secret. `at` is its type and place (`KeyError in app.py, line 12`), `""` when the words are
    cfgsync's own.

    `trace` is the traceback of the application, or `""`, for the log.

    `told` is for nodes and `/status`: `at`, or the words when they are cfgsync's own or `exposed`. `str(error)` says that.
    """

    def __init__(self, cause: str, at: str = "", trace: str = "", *, exposed: bool = False) -> None:
        self.told = cause if exposed or not at else at
        super().__init__(f"{_FAILED}{self.told}")
        self.cause = cause
        self.at = at
        self.trace = trace

    @property
    def in_full(self) -> str:
        """The sentence with the full words, for operators."""
        return f"{_FAILED}{self.cause}{f' ({self.at})' if self.at else ''}"


_FAILED = "failed to materialize config snapshot: "


class StaleGeneration(CfgsyncError):
    """An acknowledgement for a generation that is neither the current nor the previous one (`current` None: no generation
    is published). Do not repeat it; fetch from `/node` again."""

    def __init__(self, generation: str, current: str | None) -> None:
        now = f"the current one is {current}" if current is not None else "no generation is published"
        super().__init__(f"generation {generation} is neither the current nor the previous one: {now}")
        self.generation = generation
        self.current = current


class Conflict(CfgsyncError):
    """A commit expected another revision of a key. Nothing was written; read again and decide again."""

    def __init__(self, bucket: str, key: str, expected: int, actual: int) -> None:
        super().__init__(f"{bucket}/{key}: expected revision {expected}, found {actual}")
        self.bucket = bucket
        self.key = key
        self.expected = expected
        self.actual = actual


class Unavailable(CfgsyncError):
    """The store does not answer. Nothing was written and nothing will be; the same call may be made again later."""


class StoreFull(Unavailable):
    """The disk under the store is full, or the server has as many nodes as it takes. Nothing was written; it heals by itself
    when there is space again."""


class OutcomeUnknown(Unavailable):
    """A commit may become visible now, later or never, whole and at most once. Repeat only what is idempotent."""


class StoreRefused(CfgsyncError):
    """A store that must not be opened: busy, damaged, foreign, or newer than this program. `hint` says what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint
        self.add_note(hint)


class StoreDamaged(StoreRefused, Unavailable):
    """The store's content does not match its digests. It is never served and never silently recreated: opening it fails
    as `StoreRefused`, and a running server answers as `Unavailable`."""


class ParserMissing(CfgsyncError):
    """This Python has no strict parser of requests, so no server starts in it. `hint` says what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint
        self.add_note(hint)


class IntegrityError(CfgsyncError):
    """An answer that must not be written: wrong digest, older generation, illegal path, broken limit."""
