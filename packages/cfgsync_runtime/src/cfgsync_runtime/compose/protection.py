"""What a server that other machines can reach must have, and where it shows how it is protected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from cfgsync_core.wire import StatusSource

from ..access.insecure import (
    InsecureOption,
    ProtectionStatus,
    refuse_insecure,
)

if TYPE_CHECKING:
    from ..access.tls import ServerCertificate

_AS_TLS: Final = "tls=ServerCertificate(CERT, KEY)"


def as_lacking(missing: Sequence[InsecureOption]) -> str:
    return f"to lacking= {' and '.join(map(repr, missing))}"


def refuse_open(
    host: str | Sequence[str],
    lacking: tuple[InsecureOption, ...],
    *,
    has_tls: bool,
    has_rule: bool,
    spelled: Callable[[Sequence[InsecureOption]], str] = as_lacking,
) -> None:
    """`refuse_insecure` in the words of a program. Raises `InputError`."""
    refuse_insecure(host, lacking, spelled, certificate=_AS_TLS, has_tls=has_tls, has_rule=has_rule)


def protected(
    source: StatusSource,
    lacking: tuple[InsecureOption, ...],
    rebound: Mapping[str, int],
    tls: ServerCertificate | None,
) -> StatusSource:
    if not lacking and tls is None:
        return source
    return ProtectionStatus(source, lacking, rebound, None if tls is None else tls.status)
