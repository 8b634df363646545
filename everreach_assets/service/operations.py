"""An operation of the API, stated once: its route, who may call it, its body and its answers. The routes and the
OpenAPI document are both made of these statements, so that neither can say what the other does not.

What does not belong here: what an operation does (`search.py` and its neighbours).
"""

import http
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from everreach_assets.service.auth import Tokens
from everreach_assets.service.bodies import body_bytes, parsed
from everreach_assets.service.errors import ErrorAnswer, Fault, NotAccepted, not_accepted, shown
from everreach_assets.service.lanes import Lane
from everreach_assets.service.models import FILTER_SCHEMA

JSON = "application/json"
NAME = str.maketrans("/", "_", "{}")


@dataclass(frozen=True)
class Reply:
    """An answer with a status of its own; an operation that answers with a model alone means 200."""

    status: int
    body: BaseModel


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Attributes:
        summary: one line, for the document.
        answer: what a success is answered with.
        lane: whose threads do it; None: it does not block, and is done at once.
        call: does it; given the parts of the path, and what `read` makes of the body where there is one.
        body: the model of the body; None: there is none.
        read: makes the argument of `call` of the parsed body; the default checks it by `body`.
        error_statuses: of errors besides those that every such operation has.
        in_path: the parts of the path that stand in braces, and what each is like.
        statuses: further answers with the model `answer`, and what they mean.
    """

    method: str
    path: str
    summary: str
    lane: Lane | None
    answer: type[BaseModel]
    call: Callable[..., BaseModel | Reply]
    body: type[BaseModel] | None = None
    read: Callable[[Any], Any] | None = None
    needs_token: bool = True
    error_statuses: Sequence[int] = ()
    in_path: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    statuses: Mapping[int, str] = field(default_factory=dict)

    def route(self, tokens: Tokens) -> Route:
        """The operation as a route."""

        async def endpoint(request: Request) -> Response:
            if self.needs_token:  # else it is a probe, and whoever adds a parameter means nothing by it
                tokens.check(request)
                _refuse_parameters(request)
            if self.lane is None:
                return self._respond({}, b"")
            with self.lane.place():
                body = await body_bytes(request) if self.body else b""
                return await self.lane.run(partial(self._respond, request.path_params, body))

        return Route(self.path, endpoint, methods=[self.method], name=self.name)

    def _respond(self, in_path: Mapping[str, str], body: bytes) -> Response:
        """The response to a whole body. In a thread: checking a megabyte takes longer than a scrape may wait."""
        parts = [_checked(name, in_path[name], pattern) for name, pattern in self.in_path.items()]
        found = self.call(*parts, *([self._argument(body)] if self.body else []))
        reply = found if isinstance(found, Reply) else Reply(200, found)
        return Response(reply.body.model_dump_json(), status_code=reply.status, media_type=JSON)

    def _argument(self, body: bytes) -> Any:
        value = parsed(body)
        if self.read is not None:
            return self.read(value)
        assert self.body is not None  # noqa: S101 - see `_respond`
        try:
            return self.body.model_validate(value)
        except ValidationError as error:
            raise not_accepted(error) from None

    @property
    def name(self) -> str:
        """Such as get_embedding_cache_stats."""
        return f"{self.method.lower()}_{self.path.removeprefix('/api/v1').strip('/').translate(NAME)}"

    def described(self) -> dict[str, Any]:
        """The operation as the OpenAPI document has it."""
        responses = {200: _content("done", self.answer)}
        for status in self._error_statuses():
            responses[status] = _content(http.HTTPStatus(status).phrase, ErrorAnswer)
        for status, meaning in self.statuses.items():
            responses[status] = _content(meaning, self.answer, *([ErrorAnswer] if status in responses else []))
        described: dict[str, Any] = {
            "operationId": self.name,
            "summary": self.summary,
            "security": [{"token": []}] if self.needs_token else [],
            "responses": {str(status): responses[status] for status in sorted(responses)},
        }
        if self.in_path:
            described["parameters"] = [
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "schema": {"type": "string", "pattern": f"^{pattern.pattern}$"},
                }
                for name, pattern in self.in_path.items()
            ]
        if self.body:
            described["requestBody"] = {"required": True, "content": {JSON: {"schema": _reference(self.body)}}}
        return described

    def _error_statuses(self) -> list[int]:
        of_token = [401, 422] if self.needs_token else []
        of_body = [400, 408, 413, 415] if self.body else []
        return [*self.error_statuses, *of_token, *of_body, *([503] if self.lane else [])]


def openapi_document(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the operations."""
    models: dict[tuple[type[BaseModel], Literal["validation", "serialization"]], None] = {
        (ErrorAnswer, "serialization"): None
    }
    for each in operations:
        models[each.answer, "serialization"] = None
        if each.body:
            models[each.body, "validation"] = None
    _, schemas = models_json_schema(list(models), ref_template="#/components/schemas/{model}")
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = each.described()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "EverReach Assets",
            "version": version,
            "description": "Search the shared memory, record outcomes and score drafts. Guide: docs/api.md.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"] | {"Filter": FILTER_SCHEMA},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _refuse_parameters(request: Request) -> None:
    """None is taken. One that is passed over would seem to be heeded."""
    if names := [shown(name) for name in request.query_params][:3]:
        reason = "no call takes a parameter in its address: leave it out"
        raise NotAccepted(f"{', '.join(names)}: {reason}", [Fault(place=name, reason=reason) for name in names])


def _checked(name: str, value: str, pattern: re.Pattern[str]) -> str:
    """A part of a path. It is not repeated where it is none: it may be anything."""
    if not pattern.fullmatch(value):
        reason = f"it is not of the form {pattern.pattern}"
        raise NotAccepted(f"{name}: {reason}", [Fault(place=name, reason=reason)])
    return value


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _content(meaning: str, *models: type[BaseModel]) -> dict[str, Any]:
    schemas = [_reference(model) for model in models]
    return {
        "description": meaning,
        "content": {JSON: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}},
    }
