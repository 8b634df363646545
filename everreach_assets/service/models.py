"""What calls bring and what they are answered, as pydantic models: they check the bodies, and the OpenAPI document is
made of them.

What belongs here: types, bounds and words. What does not: what a call does, and the rules of the domain, which are
checked where every caller meets them (`domain/posts.py`, `domain/filters.py`); the bounds here are taken from there.
"""

import datetime as dt
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    WithJsonSchema,
    model_validator,
)

from everreach_assets.domain.collections import COLLECTIONS
from everreach_assets.domain.drafts import DraftScore
from everreach_assets.domain.filters import OPERATORS, RANGES, SETS
from everreach_assets.domain.metrics import ALIASES, MAX_COUNT, METRICS
from everreach_assets.domain.posts import DRAFT_CHARACTERS, PLATFORM_NAME, POST_ID_MAX_BYTES, TAG_MAX_CHARACTERS
from everreach_assets.domain.strategy_model import Strategy
from everreach_assets.domain.vectors import LARGEST_NUMBER, METADATA_KEY, WIDTH

QUERY_CHARACTERS = 8_192
"""Of a search's text: what a provider takes at least, whatever the language."""

RESULTS = 1_000
OUTCOMES_OF_A_BATCH = 1_000
RECORDS_OF_A_BATCH = 20_000

JsonSchema = dict[str, Any]


class Body(BaseModel):
    """A body, or a part of one: fields that are not named here are refused, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


# --- search ---------------------------------------------------------------------------------------------------------


def _known_collection(name: str) -> str:
    if name not in COLLECTIONS:
        raise ValueError(f"one of {', '.join(COLLECTIONS)}")
    return name


def _filter_schema() -> JsonSchema:
    """The grammar of `domain/filters.py`."""
    number = {"type": "number", "minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER}
    kinds = [{"type": "string", "maxLength": 2_000}, number, {"type": "boolean"}]
    lists = {"anyOf": [{"type": "array", "minItems": 1, "maxItems": 100, "items": kind} for kind in kinds]}
    operands = {each: number if each in RANGES else lists if each in SETS else {"anyOf": kinds} for each in OPERATORS}
    operators = {"type": "object", "minProperties": 1, "properties": operands, "additionalProperties": False}
    group = {"type": "array", "minItems": 1, "maxItems": 16, "items": {"$ref": "#/components/schemas/Filter"}}
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 32,
        "properties": {"$and": group, "$or": group},
        "patternProperties": {f"^{METADATA_KEY.pattern}$": {"anyOf": [*kinds, operators]}},
        "additionalProperties": False,
        "description": "Conditions on metadata (docs/vectors.md): 8 levels and 64 comparisons at most.",
        "example": {"label": {"$in": ["viral", "hit"]}, "platform": "linkedin"},
    }


FILTER_SCHEMA = _filter_schema()
Filter = Annotated[dict[str, JsonValue], WithJsonSchema({"$ref": "#/components/schemas/Filter"})]


class SearchRequest(Body):
    """A search: by a text or by an embedding, not by both."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["text"], "properties": {"text": {"type": "string"}, "embedding": {"type": "null"}}},
                {"required": ["embedding"], "properties": {"embedding": {"type": "array"}, "text": {"type": "null"}}},
            ],
            "example": {"collection": "content_embeddings", "text": "how we halved our churn", "n": 5},
        }
    )

    collection: Annotated[
        str, AfterValidator(_known_collection), WithJsonSchema({"type": "string", "enum": list(COLLECTIONS)})
    ]
    text: str | None = Field(
        None, min_length=1, max_length=QUERY_CHARACTERS, description="scrubbed of personal data, then embedded"
    )
    embedding: list[float] | None = Field(None, min_length=WIDTH, max_length=WIDTH, description="1536 numbers")
    space_id: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{12}$",
        description="the space that the embedding is of; refused where it is not in force",
    )
    n: int = Field(10, ge=1, le=RESULTS, description="results, or all that match where there are fewer")
    where: Filter | None = None

    @model_validator(mode="after")
    def _one_query(self) -> "SearchRequest":
        if (self.text is None) == (self.embedding is None):
            raise ValueError("give either text or embedding")
        return self


class SearchResult(BaseModel):
    """A document that a search found; its text is not part of it."""

    doc_id: str
    distance: float | None = Field(description="cosine distance to the query, 0 to 2; null where words alone decided")
    similarity: float | None = Field(description="1 - distance, or null")
    metadata: dict[str, str | int | float | bool]
    space: str = Field(description="what made its vector, such as openai/text-embedding-3-small")
    matched_by: Literal["vector", "text"] = Field(description="text: by its words, as the query has no vector there")


class SearchAnswer(BaseModel):
    """Nearest first."""

    collection: str
    space: str = Field(description="provider and model of the space in force, such as openai/text-embedding-3-small")
    space_id: str = Field(description="of the space in force")
    is_degraded: bool = Field(description="a provider cannot be asked: some documents were ranked by their words")
    results: list[SearchResult]


# --- outcomes -------------------------------------------------------------------------------------------------------

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _written_time(value: object) -> object:
    if not isinstance(value, str) or not RFC_3339.fullmatch(value):
        raise ValueError("a time with its zone, such as 2026-03-01T12:00:00Z")
    try:
        return dt.datetime.fromisoformat(value.upper())
    except ValueError:
        raise ValueError("no time that there is") from None


Moment = Annotated[AwareDatetime, BeforeValidator(_written_time)]

_COUNT = {"anyOf": [{"type": "number", "minimum": 0, "maximum": MAX_COUNT}, {"const": -1}, {"type": "null"}]}
Metrics = Annotated[
    dict[str, int | float | None],
    Field(min_length=1),
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "properties": dict.fromkeys((*METRICS, *ALIASES), _COUNT),
            "additionalProperties": False,
            "description": "counts by name; null and -1 mean unknown, and at least one is known",
        }
    ),
]


class OutcomeBody(Body):
    """What was observed about a post at a time."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "platform": "linkedin",
                "post_id": "7301",
                "metrics": {"impressions": 5400, "likes": 61},
                "observed_at": "2026-03-01T12:00:00Z",
            }
        }
    )

    platform: str = Field(pattern=f"^{PLATFORM_NAME.pattern}$")
    post_id: str = Field(min_length=1, max_length=POST_ID_MAX_BYTES, description="the platform's id, 95 bytes at most")
    metrics: Metrics
    observed_at: Moment | None = Field(None, description="when the counts were true; where it is left out, now")
    text: str | None = Field(None, description="the post's text; like what follows, nothing erases what is known")
    account: str | None = Field(None, max_length=TAG_MAX_CHARACTERS)
    post_type: str | None = Field(None, max_length=TAG_MAX_CHARACTERS)
    published_at: Moment | None = None


class OutcomeBatch(Body):
    """Several outcomes; each is taken or refused by itself."""

    outcomes: list[OutcomeBody] = Field(min_length=1, max_length=OUTCOMES_OF_A_BATCH)


class OutcomesRequest(RootModel[OutcomeBody | OutcomeBatch]):
    """One outcome, or a batch of them."""


class OutcomeResult(BaseModel):
    """What became of one outcome."""

    index: int = Field(description="its place in the batch, from 0")
    platform: str | None = Field(description="as it was sent; null where that is no platform's name")
    post_id: str | None = Field(description="as it was sent; null where that is no id")
    status: Literal["recorded", "unchanged", "refused"] = Field(
        description="unchanged: the same outcome was on record before"
    )
    seq: int | None = Field(description="of its row; none where it was refused")
    error: str | None = Field(description="why it was refused")


class OutcomesAnswer(BaseModel):
    """Committed when it is answered."""

    recorded: int
    unchanged: int
    refused: int
    results: list[OutcomeResult] = Field(description="one for each outcome, in their order")


# --- strategies -----------------------------------------------------------------------------------------------------


class StrategyAnswer(BaseModel):
    """The strategy in force on a platform."""

    strategy_id: int
    created_at: dt.datetime = Field(description="it knows what was labelled until then")
    strategy: Strategy


class ScoreRequest(Body):
    """A draft."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "text": "How to ask for a raise: three sentences that work",
                "account": "harbor-analytics",
                "post_type": "carousel",
                "published_at": "2026-03-02T16:00:00Z",
            }
        }
    )

    text: str = Field(max_length=DRAFT_CHARACTERS, description="scrubbed of personal data before it is scored")
    account: str = Field(max_length=TAG_MAX_CHARACTERS, description="who will publish it")
    post_type: str = Field("", max_length=TAG_MAX_CHARACTERS)
    published_at: Moment | None = Field(None, description="when it will be; null where that is open")


class ScoreAnswer(DraftScore):
    """What the draft may be expected to get, and why."""

    strategy_id: int = Field(description="of the strategy that the score follows from")


# --- metrics from outside -------------------------------------------------------------------------------------------


class MetricBody(Body):
    """What happened, for a metric whose source is outside (docs/monitoring.md)."""

    metric: str
    value: int | float | Annotated[list[int | float], Field(min_length=1)] = Field(
        description="added to a counter, set as a gauge, observed by a histogram, which also takes a list"
    )
    labels: dict[str, str] = Field(default_factory=dict)


class MetricsRequest(Body):
    """Records that land together or not at all."""

    records: list[MetricBody] = Field(max_length=RECORDS_OF_A_BATCH)
    record_id: str | None = Field(None, description="names the recording: the same again adds nothing")


class MetricsAnswer(BaseModel):
    """Committed when it is answered."""

    recorded: bool = Field(description="false where this record_id was recorded before")


# --- state ----------------------------------------------------------------------------------------------------------


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class PartState(BaseModel):
    """Whether one part of the service can do its work."""

    is_ready: bool
    reason: str = Field("", description="why not")


class Readiness(BaseModel):
    """Whether calls can be answered, part by part."""

    is_ready: bool
    parts: dict[str, PartState]


class EmbeddingQuotaAnswer(BaseModel):
    """How much of today's calls to the embedding provider is left."""

    daily_quota: int | None = Field(description="none where the provider has no limit, as the local one")
    current_count: int = Field(description="calls that were made today, or are promised and may be made yet")
    remaining: int | None
    exceeded: bool
    reset_at: dt.datetime = Field(description="the next UTC midnight")
    vector_search_enabled: bool = Field(description="whether a search by text can be embedded now")
    fallback_enabled: bool = Field(description="whether a backup provider takes over")


class EmbeddingConfigAnswer(BaseModel):
    """Who computes embeddings."""

    provider: str
    model: str
    backup_provider: str | None
    backup_model: str | None
    provider_fallback_enabled: bool


class CacheStatsAnswer(BaseModel):
    """What the cache of embeddings holds."""

    backend: str
    entries: int
    bytes: int
    hits: int
    misses: int
    hit_ratio: float | None
    oldest_at: dt.datetime | None
    ttl_seconds: int
    max_entries: int
    pending_erasures: int = Field(description="erased texts that a cache which was away has yet to forget")


class CacheCleared(BaseModel):
    """What emptying the cache removed."""

    removed: int
