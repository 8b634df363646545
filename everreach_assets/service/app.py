"""The service as an ASGI application: the one place where its routes are joined.

What does not belong here: what a route does (`metrics.py` and its neighbours), the process around it (`server.py`).
"""

import contextlib
import importlib.metadata
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from everreach_assets.domain.posts import PLATFORM_NAME
from everreach_assets.service import metrics, models, outcomes
from everreach_assets.service.auth import Tokens
from everreach_assets.service.embedding_api import EmbeddingApi
from everreach_assets.service.errors import EXCEPTION_HANDLERS
from everreach_assets.service.lanes import Lane
from everreach_assets.service.metrics import MetricRoutes, Part
from everreach_assets.service.operations import Operation, openapi_document
from everreach_assets.service.readiness import ReadinessOfParts, alive, readiness_checks
from everreach_assets.service.relay import relay_routes
from everreach_assets.service.request_log import RequestLog
from everreach_assets.service.search import Searches
from everreach_assets.service.strategies import Strategies
from resources.database import Database
from resources.settings import Settings

CONNECTIONS = 16
"""One for each worker of the lanes below that needs one, and some for what embeds and counts beside them."""

CONNECTION_SECONDS = 5.0
STATEMENT_SECONDS = 10.0


@dataclass(frozen=True)
class Lanes:
    """What each kind of call may take. `/metrics` and `/healthz` use none of it."""

    search: Lane = field(default_factory=lambda: Lane("search", workers=4, places=32))
    strategies: Lane = field(default_factory=lambda: Lane("strategies", workers=2, places=16))
    outcomes: Lane = field(default_factory=lambda: Lane("outcomes", workers=3, places=32))
    embedding: Lane = field(default_factory=lambda: Lane("embedding", workers=1, places=16))
    metrics: Lane = field(default_factory=lambda: Lane("metrics", workers=1, places=16))
    alerts: Lane = field(default_factory=lambda: Lane("alerts", workers=2, places=16))
    readiness: Lane = field(default_factory=lambda: Lane("readiness", workers=2, places=16))

    def close(self) -> None:
        for lane in vars(self).values():
            lane.close()


def create_app(settings: Settings, database: Database, *, parts: Sequence[Part] = ()) -> Starlette:
    """The application.

    Args:
        settings: with the addresses of the servers that run.
        database: opened and closed by the caller; calls of the API get a pool of their own beside it.
        parts: sources of metrics besides the database.
    """
    lanes, tokens = Lanes(), Tokens(settings)
    own = database.again(
        max_connections=CONNECTIONS, wait_seconds=CONNECTION_SECONDS, statement_seconds=STATEMENT_SECONDS
    )
    searches, embedding = Searches(settings, own), EmbeddingApi(settings, own)
    readiness = ReadinessOfParts(readiness_checks(settings, database.url, embedding.check_provider))
    operations = [
        *_state_operations(lanes, readiness),
        *_memory_operations(lanes, own, searches),
        *_strategy_operations(lanes, Strategies(own, searches)),
        *_embedding_operations(lanes, embedding),
    ]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        for each in (lanes, readiness, searches, own):
            each.close()

    app = Starlette(
        routes=[
            *(each.route(tokens) for each in operations),
            _openapi_route(operations),
            *MetricRoutes(settings, database, parts).routes(),
            *relay_routes(settings, database, lanes.alerts),
        ],
        middleware=[Middleware(RequestLog)],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a redirect would be made of the caller's Host header
    return app


def _state_operations(lanes: Lanes, readiness: ReadinessOfParts) -> list[Operation]:
    return [
        Operation("GET", "/healthz", "Whether the process lives", None, models.Alive, alive, needs_token=False),
        Operation(
            "GET", "/readyz", "Whether each part can do its work", lanes.readiness, models.Readiness, readiness.answer,
            needs_token=False, statuses={503: "a part is not ready"},
        ),
    ]  # fmt: skip


def _memory_operations(lanes: Lanes, database: Database, searches: Searches) -> list[Operation]:
    return [
        Operation(
            "POST", "/api/v1/search", "The documents nearest to a text or an embedding", lanes.search,
            models.SearchAnswer, searches.search, models.SearchRequest,
            error_statuses=(429,),
        ),
        Operation(
            "POST", "/api/v1/outcomes", "Record what was observed about posts", lanes.outcomes,
            models.OutcomesAnswer, partial(outcomes.record, database), models.OutcomesRequest, outcomes.given_outcomes,
            statuses={207: "some were refused, the others are recorded"},
        ),
        Operation(
            "POST", "/api/v1/metrics", "Record what other services did", lanes.metrics,
            models.MetricsAnswer, partial(metrics.record, database), models.MetricsRequest,
        ),
    ]  # fmt: skip


def _strategy_operations(lanes: Lanes, strategies: Strategies) -> list[Operation]:
    path, platform = "/api/v1/strategies/{platform}", {"platform": PLATFORM_NAME}
    return [
        Operation(
            "GET", path, "The strategy in force on a platform", lanes.strategies,
            models.StrategyAnswer, strategies.show,
            error_statuses=(404,), in_path=platform,
        ),
        Operation(
            "POST", f"{path}/score", "What a draft may be expected to get, and why", lanes.strategies,
            models.ScoreAnswer, strategies.score, models.ScoreRequest,
            error_statuses=(404,), in_path=platform,
        ),
    ]  # fmt: skip


def _embedding_operations(lanes: Lanes, embedding: EmbeddingApi) -> list[Operation]:
    base, lane = "/api/v1/embedding", lanes.embedding
    return [
        Operation(
            "GET", f"{base}/health", "Whether the process lives", None, models.Alive, alive, needs_token=False
        ),
        Operation(
            "GET", f"{base}/quota", "What is left of today's calls to the provider", lane,
            models.EmbeddingQuotaAnswer, embedding.quota,
        ),
        Operation(
            "GET", f"{base}/config", "Who computes embeddings", lane, models.EmbeddingConfigAnswer, embedding.config
        ),
        Operation(
            "GET", f"{base}/cache/stats", "What the cache holds", lane, models.CacheStatsAnswer, embedding.cache_stats
        ),
        Operation(
            "DELETE", f"{base}/cache", "Forget every cached vector", lane, models.CacheCleared, embedding.clear_cache
        ),
    ]  # fmt: skip


def _openapi_route(operations: Iterable[Operation]) -> Route:
    document = openapi_document(list(operations), importlib.metadata.version("everreach-assets"))

    async def openapi(_: Request) -> Response:
        return JSONResponse(document)

    return Route("/openapi.json", openapi, methods=["GET"])
