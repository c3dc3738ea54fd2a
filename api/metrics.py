"""What Prometheus is told: answers as they are given, and totals of the store, counted at most every few seconds.

Each application has a registry of its own. Labels take their values from routes, methods and states, of which
there are few however many searches and paths are asked for.
"""

import platform
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from nas.clock import utc_now
from nas.errors import StoreUnavailable
from nas.outbox import Backlog
from nas.search import SearchState
from nas.service import SearchService
from nas.totals import Totals
from nas.trial import TrialState

PLAIN, OPENMETRICS = "text/plain", "application/openmetrics-text"
FRESH_SECONDS = 5.0
"""Totals are not counted again before."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})


class Metrics:
    """The numbers of one application."""

    def __init__(self, service: SearchService, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._registry = CollectorRegistry()
        self._latency = Histogram(
            "nas_http_request_duration_seconds",
            "From a request to the beginning of its answer",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=BUCKETS,
        )
        build = Info("nas_build", "What runs here", registry=self._registry)
        build.info({"version": _version(), "python": platform.python_version()})
        ProcessCollector(registry=self._registry)
        self._registry.register(_Stored(service, clock))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        known = method if method in METHODS else "other"
        self._latency.labels(known, route, str(status)).observe(seconds)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all numbers in the format that is accepted, and its media type."""
        if OPENMETRICS in accept:
            content: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return content, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _Stored(Collector):
    """The totals of the store, or that it does not answer."""

    def __init__(self, service: SearchService, clock: Callable[[], float]) -> None:
        self._service = service
        self._clock = clock
        self._lock = threading.Lock()
        self._found: Totals | None = None
        self._backlog: Backlog | None = None
        self._fresh_until = float("-inf")

    def describe(self) -> list[Metric]:
        """Say nothing beforehand: a registry would otherwise count when it is made."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield what there is."""
        totals = self._totals()
        yield GaugeMetricFamily("nas_database_up", "Whether the database answers", float(totals is not None))
        if totals is None:
            return
        searches = GaugeMetricFamily("nas_searches", "Searches in each state", labels=["state"])
        for search_state in SearchState:
            searches.add_metric([search_state.value], totals.searches.get(search_state, 0))
        trials = GaugeMetricFamily("nas_trials", "Trials in each state, baselines included", labels=["state"])
        for trial_state in TrialState:
            trials.add_metric([trial_state.value], totals.trials.get(trial_state, 0))
        yield searches
        yield trials
        yield CounterMetricFamily(
            "nas_trained_tokens", "Tokens that trials were trained on", totals.trained_tokens
        )
        yield CounterMetricFamily(
            "nas_training_flops",
            "Floating-point operations of students in training, those of teachers not counted",
            totals.training_gigaflops * 10**9,
        )
        if (backlog := self._backlog) is not None:
            age = (utc_now() - backlog.since).total_seconds() if backlog.since else 0.0
            yield GaugeMetricFamily(
                "nas_mlflow_unsent_events", "Events that MLflow was not told of yet", backlog.num_events
            )
            yield GaugeMetricFamily("nas_mlflow_behind_seconds", "Age of the oldest of them", max(0.0, age))

    def _totals(self) -> Totals | None:
        """Return the totals, counted by one caller at a time and kept for a while, also that there are none."""
        with self._lock:
            if self._clock() >= self._fresh_until:
                try:
                    self._found = self._service.totals()
                    self._backlog = self._service.mlflow.backlog()
                except StoreUnavailable:
                    self._found = None
                self._fresh_until = self._clock() + FRESH_SECONDS
            return self._found


def _version() -> str:
    try:
        return version("minitron-nas")
    except PackageNotFoundError:  # run from a directory that was never installed
        return "unknown"
