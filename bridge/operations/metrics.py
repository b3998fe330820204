"""What Prometheus reads: every number of every worker, under one name each.

A worker's numbers are a flat dictionary, which it leaves in the run folder
once a second; whoever is asked adds up what all have left. Totals of workers
that have ended go on counting.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import gevent
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bridge.core.subscription import State
from bridge.server.run_folder import ENDED, RunFolder
from bridge.server.runtime import Runtime
from bridge.values.counters import COUNTERS, LATENCY_BOUNDS

__all__ = ["METRICS", "Spec", "numbers", "render", "totals"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric.

    Attributes:
        kind: counter, gauge (added up over workers), max (their largest) or
            histogram.
        label: the name of its one label; None: it has none.
    """

    name: str
    kind: str
    says: str
    label: str | None = None


METRICS = (
    Spec("connections", "gauge", "Clients that are connected."),
    Spec("connections_opened", "counter", "Clients that have connected."),
    Spec("connections_closed", "counter", "Clients that have left."),
    Spec("subscriptions", "gauge", "Subscriptions, by kind of channel.", "kind"),
    Spec("channels", "gauge", "Channels that are listened to."),
    Spec("notifications", "counter", "What came from PostgreSQL, by source.", "source"),
    Spec("deliveries", "counter", "Notifications written to clients."),
    Spec("delivered_bytes", "counter", "Bytes of those."),
    Spec("slow_connections", "gauge", "Clients for which something waits."),
    Spec("backlog_bytes", "gauge", "What waits for them."),
    Spec("gaps", "counter", "Gaps told to clients, by reason.", "reason"),
    Spec("interruptions", "counter", "Interruptions told, by reason.", "reason"),
    Spec("stray_notifications", "counter", "Notifications past the journal."),
    Spec(
        "access_unavailable",
        "counter",
        "Questions without an answer.",
    ),
    Spec("listeners", "gauge", "Sessions that listen, or should."),
    Spec("listeners_away", "gauge", "Those that have lost PostgreSQL."),
    Spec("reconnects", "counter", "Sessions on PostgreSQL lost, by part.", "part"),
    Spec("queue_usage", "max", "How full PostgreSQL's queue is, 0 to 1."),
    Spec("journal_up", "gauge", "Workers that can read the journal."),
    Spec("journal_away", "gauge", "Workers that cannot, though it is there."),
    Spec("journal_denied", "gauge", "Workers whose role may not read it."),
    Spec("journal_position", "max", "The last position that was written."),
    Spec("journal_behind", "gauge", "Subscriptions that wait to be brought forward."),
    Spec("sequencer", "gauge", "Workers that give positions: should be 1."),
    Spec("sequencer_found_late", "counter", "Looks that found events nobody rang for."),
    Spec("durable_latency_seconds", "histogram", "From publish to the socket."),
    Spec("loop_lag_seconds", "max", "How late the event loop is, at most."),
    Spec("loop_blocked", "counter", "Times it stood still for over a second."),
    Spec("loop_watchers", "gauge", "Sockets, timers and greenlets it waits for."),
    Spec("workers", "gauge", "Workers that are counted here."),
)
"""All there are, without the prefix `pgbridge_`."""


def numbers(runtime: Runtime) -> dict[str, float]:
    """Return this worker's numbers: ``name`` or ``name|label`` to value."""
    found: dict[str, float] = {
        "connections_opened": COUNTERS.opened,
        "connections_closed": COUNTERS.closed,
        "deliveries": COUNTERS.deliveries,
        "delivered_bytes": COUNTERS.delivered_bytes,
        "stray_notifications": COUNTERS.strays,
        "access_unavailable": COUNTERS.refused_checks,
        "loop_blocked": COUNTERS.blocked,
        "workers": 1,
    }
    for name, counter in (
        ("notifications", COUNTERS.notifications),
        ("gaps", COUNTERS.gaps),
        ("interruptions", COUNTERS.interruptions),
        ("reconnects", COUNTERS.reconnects),
    ):
        found |= {f"{name}|{label}": value for label, value in counter.items()}
    latency = COUNTERS.latency
    for bound, count in zip([*latency.bounds, "+Inf"], latency.counts, strict=True):
        found[f"durable_latency_seconds|{bound}"] = count
    found["durable_latency_seconds|sum"] = latency.sum
    found["loop_watchers"] = gevent.get_hub().loop.activecnt
    found["loop_lag_seconds"] = runtime.lag.take_worst()
    _add_parts(runtime, found)
    return found


def _add_parts(runtime: Runtime, found: dict[str, float]) -> None:
    hub, pool, journal = runtime.hub, runtime.pool, runtime.journal
    connections, sequencer = runtime.connections, runtime.sequencer
    if hub is None or pool is None or journal is None or connections is None:
        return
    backlogs = [b for b in (one.backlog_bytes for one in connections) if b]
    durable = hub.feed.subscriptions
    found |= {
        "connections": len(connections),
        "subscriptions|durable": durable,
        "subscriptions|plain": hub.subscriptions - durable,
        "channels": pool.channels,
        "slow_connections": len(backlogs),
        "backlog_bytes": sum(backlogs),
        "listeners": pool.listeners,
        "listeners_away": pool.away,
        "queue_usage": pool.queue_usage,
        "journal_up": int(hub.feed.state is State.LIVE),
        "journal_away": int(not journal.live),
        "journal_denied": int(journal.denied),
        "journal_position": hub.feed.position,
        "journal_behind": hub.feed.behind,
    }
    if sequencer is not None:
        found["sequencer"] = int(sequencer.leading)
        found["sequencer_found_late"] = sequencer.found_late


def totals(worker: Mapping[str, float]) -> dict[str, float]:
    """Return those numbers that only grow."""
    growing = {s.name for s in METRICS if s.kind in ("counter", "histogram")}
    return {
        name: value
        for name, value in worker.items()
        if name.partition("|")[0] in growing
    }


def render(folder: RunFolder, runtime: Runtime, accept: str) -> tuple[bytes, str]:
    """Return the page for Prometheus, and its content type.

    Args:
        accept: the request's header.
    """
    own = numbers(runtime)
    workers = folder.read(os.getppid())
    workers[str(os.getpid())] = own
    registry = CollectorRegistry()
    registry.register(_Collector(workers))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector(Collector):
    """Adds up the workers' numbers."""

    def __init__(self, workers: Mapping[str, Mapping[str, float]]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        for spec in METRICS:
            values = self._values(spec)
            name = f"pgbridge_{spec.name}"
            if spec.kind == "histogram":
                yield _histogram(name, spec.says, values)
                continue
            kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
            labels = [] if spec.label is None else [spec.label]
            family = kind(name, spec.says, labels=labels)
            for label, value in sorted(values.items()):
                family.add_metric([label] if labels else [], value)
            yield family

    def _values(self, spec: Spec) -> dict[str, float]:
        """Return the values by label; "" where there is none."""
        found: dict[str, float] = {} if spec.label else {"": 0.0}
        combine: Callable[[float, float], float]
        combine = max if spec.kind == "max" else operator.add
        for worker, own in self._workers.items():
            if worker == ENDED and spec.kind in ("gauge", "max"):
                continue
            for key, value in own.items():
                name, _, label = key.partition("|")
                if name == spec.name:
                    found[label] = combine(found.get(label, 0.0), value)
        return found


def _histogram(
    name: str, says: str, values: Mapping[str, float]
) -> HistogramMetricFamily:
    running = 0.0
    buckets = []
    for bound in (*LATENCY_BOUNDS, "+Inf"):
        running += values.get(str(bound), 0.0)
        buckets.append((str(bound), running))
    family = HistogramMetricFamily(name, says)
    family.add_metric([], buckets, values.get("sum", 0.0))
    return family


def describe() -> Iterable[tuple[str, str, str]]:
    """Return (name, labels and kind, meaning) of every metric, for the page."""
    for spec in METRICS:
        suffix = "_total" if spec.kind == "counter" else ""
        label = f"{{{spec.label}}}" if spec.label else ""
        kind = "gauge" if spec.kind == "max" else spec.kind
        yield f"pgbridge_{spec.name}{suffix}{label}", kind, spec.says
