"""The parts of one running server that have figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core.server import WatchStreams
from cfgsync_core.store import StoreCounts
from cfgsync_core.wire import StatusSource

from ..access.insecure import InsecureOption
from .requests import RequestCounts

if TYPE_CHECKING:
    from cfgsync_core import HttpServer

    from ..access.tls import ServerCertificate


class Observed(msgspec.Struct):
    """What `/metrics` reads; a part that is None has no figures."""

    traffic: RequestCounts
    server: HttpServer | None = None
    status: StatusSource | None = None
    source: RegistrationConfigSource | None = None
    store: StoreCounts | None = None
    pages: WatchStreams | None = None
    lacking: tuple[InsecureOption, ...] = ()
    tls: ServerCertificate | None = None
