"""The service as an ASGI application: the one place where its routes are joined.

What does not belong here: what a route does (`metrics.py` and its neighbours), the process around it (`server.py`).
"""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from everreach_assets.service.auth import EXCEPTION_HANDLERS
from everreach_assets.service.metrics import MetricRoutes, Part
from everreach_assets.service.relay import relay_routes
from resources.database import Database
from resources.settings import Settings


def create_app(settings: Settings, database: Database, *, parts: Sequence[Part] = ()) -> Starlette:
    """The application.

    Args:
        settings: with the addresses of the servers that run.
        database: opened and closed by the caller.
        parts: sources of metrics besides the database.
    """
    return Starlette(
        routes=[
            Route("/healthz", healthz, methods=["GET"]),
            *MetricRoutes(settings, database, parts).routes(),
            *relay_routes(settings, database),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )


async def healthz(_: Request) -> Response:
    """The process answers. Whether the database does is everreach_exporter_up on /metrics."""
    return JSONResponse({"status": "ok"})
