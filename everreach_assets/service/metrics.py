"""`/metrics`: what Prometheus sees, read anew at every scrape.

What belongs here: the collector, its route, and the recording of metrics from outside. What does not: where the
numbers come from (`resources/metric_queries.py`, `resources/metric_records.py`,
`everreach_assets/service/dagster_state.py`) and which there are (`domain/metric_catalogue.py`).

Nothing is counted in this process, so a restart changes nothing, and two of them agree.
"""

import contextlib
import datetime as dt
import importlib.metadata
import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from everreach_assets.domain.errors import EverReachError, Unavailable
from everreach_assets.domain.metric_catalogue import CATALOGUE, Metric
from everreach_assets.service.errors import Fault, NotAccepted
from everreach_assets.service.models import MetricsAnswer, MetricsRequest
from resources import metric_queries, metric_records
from resources.database import Database, read_snapshot
from resources.metric_records import Buckets, Record, Sample
from resources.settings import Settings

CONNECTIONS = 2
"""Scrapes at a time, each on a connection of its own; a third one waits for its turn."""

WAIT_SECONDS = 5.0
METRIC_NAME = re.compile(r"[a-z_]{1,80}")
"""What an answer repeats of a name that is none of ours; anything else may be somebody's data."""

QUOTA_PROVIDERS = ("openai", "voyage")  # the local one costs nothing and has no quota

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A source of samples besides the database, by the name that its success is shown under."""

    name: str
    read: Callable[[], Iterable[Sample]]


class ServiceCollector(Collector):
    """Reads every metric of the catalogue that has a source now.

    Args:
        parts: further sources; one that raises is shown as failed, and hides no other.
    """

    def __init__(self, settings: Settings, database_url: str, parts: Sequence[Part] = ()) -> None:
        self._settings = settings
        self._database_url = database_url
        self._parts = parts
        self._turns = threading.BoundedSemaphore(CONNECTIONS)

    def describe(self) -> Iterable[MetricFamily]:
        """Nothing: else the registry would collect once to find the names, and fail to start without the database."""
        return []

    def collect(self) -> Iterator[MetricFamily]:
        start = time.perf_counter()
        samples, success = self._from_database()
        for part in self._parts:
            try:
                samples += list(part.read())
                success[part.name] = True
            except EverReachError as error:
                logger.warning("%s: %s", part.name, error)
                success[part.name] = False
            except Exception:
                logger.exception("%s could not be read", part.name)
                success[part.name] = False
        is_up = success.pop("database")
        samples += self._own(is_up, success)
        samples.append(Sample("everreach_exporter_scrape_duration_seconds", {}, time.perf_counter() - start))
        yield from families(samples)

    def _from_database(self) -> tuple[list[Sample], dict[str, bool]]:
        """The samples, and which parts succeeded; `database` is the whole."""
        parts = (*metric_queries.PARTS, "database")
        try:
            with self._turn(), read_snapshot(self._database_url) as connection:
                reading = metric_queries.read_all(connection, self._settings)
        except EverReachError as error:
            logger.warning("%s", error)
            return [], dict.fromkeys(parts, False)
        for part, reason in reading.failed.items():
            logger.warning("%s could not be read: %s", part, reason)
        return reading.samples, {part: part not in reading.failed for part in parts}

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=WAIT_SECONDS):
            raise Unavailable(f"{CONNECTIONS} scrapes did not end within {WAIT_SECONDS:.0f} s: this one has no data")
        try:
            yield
        finally:
            self._turns.release()

    def _own(self, is_up: bool, success: dict[str, bool]) -> Iterator[Sample]:
        yield Sample("everreach_exporter_up", {}, float(is_up))
        for part, succeeded in success.items():
            yield Sample("everreach_exporter_collector_success", {"collector": part}, float(succeeded))
        version = importlib.metadata.version("everreach-assets")
        yield Sample("everreach_exporter_build_info", {"version": version}, 1.0)
        if not is_up:
            return  # what a month may cost is no use where nobody knows what it has cost
        yield Sample("everreach_cloud_cost_cap_usd", {}, self._settings.cloud_cost_cap_usd)
        for provider in QUOTA_PROVIDERS:
            yield Sample(
                "everreach_embedding_daily_quota", {"provider": provider}, float(self._settings.embedding_daily_quota)
            )
        yield Sample("everreach_embedding_quota_reset_timestamp_seconds", {}, next_utc_day(time.time()))


def next_utc_day(now: float) -> float:
    """The next UTC midnight, as seconds since 1970."""
    day = dt.timedelta(days=1)
    return now - now % day.total_seconds() + day.total_seconds()


def families(samples: Iterable[Sample]) -> Iterator[MetricFamily]:
    """The samples as families of the catalogue's types, in the catalogue's order; none without a sample."""
    places = {name: number for number, name in enumerate(CATALOGUE)}
    ordered = sorted(samples, key=lambda sample: places[sample.metric])
    for name, of_metric in itertools.groupby(ordered, key=lambda sample: sample.metric):
        yield _family(CATALOGUE[name], of_metric)


def _family(metric: Metric, samples: Iterable[Sample]) -> MetricFamily:
    labels = list(metric.labels)
    if metric.type == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
        for sample in samples:
            assert isinstance(sample.value, Buckets)  # noqa: S101 - a histogram's rows hold nothing else
            cumulated = itertools.accumulate(sample.value.counts)
            values = [sample.labels[label] for label in labels]
            histogram.add_metric(values, list(zip(bounds, cumulated, strict=True)), sample.value.sum)
        return histogram
    kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
    family = kind(metric.name, metric.help, labels=labels)
    for sample in samples:
        assert isinstance(sample.value, int | float)  # noqa: S101 - only a histogram's rows hold anything else
        family.add_metric([sample.labels[label] for label in labels], sample.value)
    return family


@dataclass(frozen=True)
class MetricRoutes:
    """`GET /metrics`."""

    settings: Settings
    database: Database
    parts: Sequence[Part] = ()
    registry: CollectorRegistry = field(init=False, default_factory=lambda: CollectorRegistry(auto_describe=False))

    def __post_init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # else each counter is two series
        self.registry.register(ServiceCollector(self.settings, self.database.url, self.parts))

    def routes(self) -> list[Route]:
        return [Route("/metrics", self.exposition, methods=["GET"])]

    def exposition(self, request: Request) -> Response:
        """What there is now, in the format that the caller asks for. A plain function: Starlette gives it a thread."""
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(self.registry), headers={"Content-Type": content_type})


def record(database: Database, request: MetricsRequest) -> MetricsAnswer:
    """Add what another service did to the durable rows; the same `record_id` again adds nothing.

    Raises:
        InvalidInput: a record is none that may be recorded from outside; nothing was recorded.
        Unavailable: the database did not answer.
    """
    records = to_records(request)
    with database.connection() as connection:
        is_new = metric_records.record_from_outside(connection, records, record_id=request.record_id)
    return MetricsAnswer(recorded=is_new)


def to_records(request: MetricsRequest) -> list[Record]:
    """The records of a request.

    Raises:
        NotAccepted: there is no such metric, or it is no histogram and has a list of values. It names the record.
    """
    for number, each in enumerate(request.records):
        if each.metric not in CATALOGUE:
            shown = f"{each.metric!r}: " if METRIC_NAME.fullmatch(each.metric) else ""
            reason = f"{shown}there is no such metric"
        elif isinstance(each.value, list) and CATALOGUE[each.metric].type != "histogram":
            reason = f"{each.metric}: value is a number; only a histogram's may be several"
        else:
            continue
        place = f"records.{number}"
        raise NotAccepted(f"{place}: {reason}", [Fault(place=place, reason=reason)])
    return [Record(each.metric, each.value, each.labels) for each in request.records]
