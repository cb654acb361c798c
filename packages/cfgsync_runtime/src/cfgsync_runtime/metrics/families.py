"""The figures of a server as Prometheus reads them, taken from plain integers at each scrape.

No label is an identifier: a fleet of 10,000 nodes has as many series as one of ten.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, GCCollector, Metric, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from cfgsync_adapter import RegistrationConfigSource
from cfgsync_core import FleetStatus, HttpServer
from cfgsync_core.store import StoreCounts
from cfgsync_core.wire import NODE_STATES, FleetState, RolloutState, RolloutStatus

from .observed import Observed
from .requests import BOUNDS, CANCELLED, RequestCounts

if TYPE_CHECKING:
    from ..access.tls import ServerCertificate

_OUTCOMES: Mapping[int, str] = {
    304: "unchanged",
    401: "unauthorized",
    403: "forbidden",
    404: "missing",
    406: "not_acceptable",
    409: "conflict",
    425: "not_ready",
    429: "rate_limited",
    CANCELLED: "cancelled",
    500: "failed",
    503: "unavailable",
    507: "unavailable",
}
"""The outcome of a status; any other is `ok` below 400, else `invalid`."""


def text_of(observed: Observed) -> tuple[Callable[[], bytes], str]:
    """A function that writes the figures of `observed`, and their content type. Each server has a registry of its own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(observed))
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return partial(generate_latest, registry), CONTENT_TYPE_PLAIN_0_0_4


class _Figures(Collector):
    """Collects the families of one server."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._build = {"version": version("cfgsync-runtime"), "python": platform.python_version()}

    def collect(self) -> Iterator[Metric]:
        seen = self._observed
        yield InfoMetricFamily("cfgsync_build", "The program that answers.", value=self._build)
        yield _by(
            GaugeMetricFamily,
            "cfgsync_insecure",
            "1 for each protection that the operator switched off.",
            "what",
            {what: float(what in seen.lacking) for what in ("no-tls", "no-auth")},
        )
        if seen.tls is not None:
            yield from _tls(seen.tls)
        yield from _traffic(seen.traffic)
        if seen.server is not None:
            yield from _connections(seen.server)
        if seen.pages is not None:
            yield GaugeMetricFamily("cfgsync_watchers", "Streams of /watch that are open.", len(seen.pages))
        if seen.store is not None:
            yield from _store(seen.store)
        if seen.status is not None:
            fleet = seen.status.fleet(0, "")
            yield from _fleet(fleet)
            if seen.source is not None:
                yield from _rollout(fleet)
        if seen.source is not None:
            yield from _runs(seen.source)


def _tls(tls: ServerCertificate) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "cfgsync_tls_certificate_left_seconds",
        "Time until the server's certificate ends, negative afterwards.",
        tls.ends_at - time.time(),
    )
    yield GaugeMetricFamily(
        "cfgsync_tls_certificate_refused",
        "1 while the newest certificate files cannot be used, and the ones before are.",
        float(tls.is_refused),
    )
    yield CounterMetricFamily(
        "cfgsync_tls_certificate_reloads",
        "Times that the certificate files were read again and taken.",
        tls.reloads,
    )


def _fleet(fleet: FleetStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily("cfgsync_registrations", "Nodes that are registered.", fleet.registered)
    yield GaugeMetricFamily(
        "cfgsync_registrations_revision", "The revision of the registrations.", fleet.revision
    )
    yield GaugeMetricFamily("cfgsync_waiting_requests", "Requests of nodes that are held.", fleet.waiting)
    yield GaugeMetricFamily(
        "cfgsync_ready",
        "1 when a generation covers all registrations and nothing is wrong; /status has the reason.",
        float(fleet.state in ("converging", "converged") and not fleet.reason),
    )
    yield _by(
        GaugeMetricFamily,
        "cfgsync_fleet_state",
        "1 for the state that the fleet is in.",
        "state",
        {state: float(state == fleet.state) for state in get_args(FleetState)},
    )
    yield _by(
        GaugeMetricFamily,
        "cfgsync_nodes",
        "Nodes by state; not_registered are those that a condition of the materializer names as missing.",
        "state",
        {state: float(fleet.counts.get(state, 0)) for state in NODE_STATES},
    )
    epoch, _, number = (fleet.generation or "").rpartition(".")
    yield GaugeMetricFamily(
        "cfgsync_generation_number", "The current generation, 0 without one.", int(number or 0)
    )
    current = InfoMetricFamily("cfgsync_generation", "The epoch of the current generation.", labels=())
    if epoch:
        current.add_metric((), {"epoch": epoch})
    yield current
    yield GaugeMetricFamily(
        "cfgsync_fleet_applied",
        "Nodes that have acknowledged what the current generation gives them.",
        fleet.applied,
    )
    yield GaugeMetricFamily(
        "cfgsync_fleet_lag",
        "Nodes that have not acknowledged what the current generation gives them, or are not in it yet.",
        fleet.behind_count,
    )
    yield GaugeMetricFamily(
        "cfgsync_drifted_nodes",
        "Nodes on whose disks files were changed and not restored.",
        fleet.drifted_count or 0,
    )


def _rollout(fleet: FleetStatus) -> Iterator[Metric]:
    found = fleet.rollout or RolloutStatus(state="idle", generation="")
    yield _by(
        GaugeMetricFamily,
        "cfgsync_rollout_state",
        "1 for the state of the rollout of the current generation.",
        "state",
        {state: float(state == found.state) for state in get_args(RolloutState)},
    )
    yield _by(
        GaugeMetricFamily,
        "cfgsync_rollout_nodes",
        "Nodes that take turns: through with the current generation, in transition, waiting for a turn, failed.",
        "state",
        {
            "through": float(found.through),
            "in_transition": float(found.in_transition),
            "waiting": float(found.waiting),
            "failed": float(len(found.failed)),
        },
    )


def _runs(source: RegistrationConfigSource) -> Iterator[Metric]:
    tally = source.parts.runs.tally
    yield CounterMetricFamily(
        "cfgsync_generations_made", "Generations that this server has committed.", source.parts.publisher.made
    )
    outcomes = source.parts.turns.outcomes
    yield _by(CounterMetricFamily, "cfgsync_rollouts", "Rollouts, by how they ended.", "outcome", outcomes)
    yield _by(
        CounterMetricFamily,
        "cfgsync_materializer_runs",
        "Runs of the materializer, by outcome.",
        "outcome",
        tally.runs,
    )
    yield SummaryMetricFamily(
        "cfgsync_materializer_run_seconds",
        "From the start of a run to its outcome, with the commit.",
        sum(tally.runs.values()),
        tally.seconds,
    )
    yield GaugeMetricFamily(
        "cfgsync_materializer_last_run_seconds", "The same of the last run.", tally.last_seconds
    )
    yield CounterMetricFamily(
        "cfgsync_materializer_processor_seconds",
        "Processor time that the materializer took.",
        tally.processor_seconds,
    )


def _store(tally: StoreCounts) -> Iterator[Metric]:
    for name, documentation, outcomes in (
        ("cfgsync_store_commits", "Commits, by outcome.", tally.commits),
        ("cfgsync_hints", "Hints after commits, by outcome.", tally.hints),
        ("cfgsync_events", "Events to observers outside after commits, by outcome.", tally.events),
    ):
        yield _by(CounterMetricFamily, name, documentation, "outcome", outcomes)
    yield GaugeMetricFamily(
        "cfgsync_kv_copies_behind",
        "Environments whose copy in KV (--project-kv) is not complete.",
        tally.copies_behind,
    )
    yield CounterMetricFamily(
        "cfgsync_kv_foreign_values",
        "Values in KV that somebody else had written, and that were replaced.",
        tally.copies_mended,
    )


def _connections(server: HttpServer) -> Iterator[Metric]:
    yield GaugeMetricFamily("cfgsync_connections", "Connections that are open.", server.connections)
    yield CounterMetricFamily(
        "cfgsync_connections_evicted",
        "Idle connections that were closed to make place for another.",
        server.evicted,
    )
    yield _by(
        CounterMetricFamily,
        "cfgsync_unread_requests",
        "Requests refused before a handler saw them: too large, too slow, not JSON, not a registration.",
        "status",
        {str(status): many for status, many in sorted(server.unread.items())},
    )


def _traffic(traffic: RequestCounts) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        "cfgsync_request_duration_seconds",
        "From a decoded request to its answer, with the time that it was held.",
        labels=["route", "outcome"],
    )
    for (route, outcome), (buckets, seconds) in _merged(traffic).items():
        total = 0
        cumulated: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), buckets, strict=True):
            total += count
            cumulated.append((bound, total))
        family.add_metric((route, outcome), cumulated, seconds)
    yield family


def _merged(traffic: RequestCounts) -> dict[tuple[str, str], tuple[list[int], float]]:
    """By route and outcome: the sum of the statuses with one outcome."""
    merged: dict[tuple[str, str], tuple[list[int], float]] = {}
    for route, status, buckets, seconds in traffic.cells():
        key = (route, _OUTCOMES.get(status, "ok" if status < 400 else "invalid"))
        before, spent = merged.get(key, ([0] * len(buckets), 0.0))
        merged[key] = ([a + b for a, b in zip(before, buckets, strict=True)], spent + seconds)
    return merged


def _by(
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    documentation: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    """A family with one sample for each key of `values`, the value of its only label."""
    found = family(name, documentation, labels=[label])
    for key, value in values.items():
        found.add_metric((key,), value)
    return found
