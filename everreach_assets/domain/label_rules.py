"""What a platform's posts are judged by: its metrics in order, what its zeros mean, when its counts are settled.

What belongs here: the table of platforms, and the reading and checking of a file that changes it. What does not: the
judgement (`outcomes.py`) and the thresholds of z and multiple, which are the same everywhere.
"""

import functools
import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.metrics import METRICS, is_count
from everreach_assets.domain.posts import check_platform

Checkpoint = Literal["1h", "6h", "24h", "72h", "7d", "30d"]
CHECKPOINTS: tuple[Checkpoint, ...] = get_args(Checkpoint)
CHECKPOINT_SECONDS: Mapping[Checkpoint, float] = dict(
    zip(CHECKPOINTS, (3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0), strict=True)
)

INTERACTIONS = "interactions"
EVERY_PLATFORM = "default"
"""The key of a rules file that speaks of all platforms."""


def _metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"{name!r} is not one of {', '.join(METRICS)}")
    return name


Metric = Annotated[str, AfterValidator(_metric)]
Floor = Annotated[float, Field(ge=0, le=1e14, allow_inf_nan=False)]


class PlatformRules(BaseModel):
    """The rules of one platform.

    Attributes:
        reach_metrics: the first that a post reports is what it is judged by: they count people, not their reactions.
        interaction_weights: what is added up where no reach is reported; what costs a person more counts more.
            `reactions` hold the likes and replace them.
        zero_means_disabled: metrics whose zero says that the count is switched off: unknown, not nought.
        final_at: the checkpoint from which on the counts are taken as settled.
        viral_floor: least reach of a viral post; a tiny account's best day is none.
        viral_floor_of_interactions: the same where interactions are what a post is judged by.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reach_metrics: tuple[Metric, ...] = ("views", "impressions", "reach", "plays")
    interaction_weights: dict[Metric, Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]] = {
        "likes": 1, "score": 1, "reactions": 1, "clicks": 1, "comments": 2, "shares": 3, "saves": 3,
    }  # fmt: skip
    zero_means_disabled: tuple[Metric, ...] = ()
    final_at: Checkpoint = "7d"
    viral_floor: Floor = 1_000.0
    viral_floor_of_interactions: Floor = 50.0

    @functools.cached_property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """Those up to the final one: counts do not become more settled than settled."""
        return CHECKPOINTS[: CHECKPOINTS.index(self.final_at) + 1]

    def slot(self, age_seconds: float | None) -> int | None:
        """Number of the largest checkpoint that an observation of that age has reached; None below the first.

        An unknown age counts as the last: most posts of unknown age are old.
        """
        if age_seconds is None:
            return len(self.checkpoints) - 1
        reached = sum(age_seconds >= CHECKPOINT_SECONDS[name] for name in self.checkpoints)
        return reached - 1 if reached else None

    def floor(self, metric: str) -> float:
        """Least value of a viral post."""
        return self.viral_floor_of_interactions if metric == INTERACTIONS else self.viral_floor

    def known(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The counts without those that are switched off, and without what is none: rows may come past the intake."""
        return {
            name: count
            for name, count in metrics.items()
            if is_count(count) and (count or name not in self.zero_means_disabled)
        }

    def primary(self, metrics: Mapping[str, float]) -> tuple[str, float, tuple[str, ...]] | None:
        """What a post is judged by, how much of it there is, and the metrics it comes from; None: nothing usable.

        A reach of zero beside a like is no count: nobody reacts to what nobody saw.
        """
        weights = {name: weight for name, weight in self.interaction_weights.items() if name in metrics}
        if "reactions" in weights:
            weights.pop("likes", None)
        interactions = float(sum(weight * metrics[name] for name, weight in weights.items()))
        for name in self.reach_metrics:
            if name in metrics and (metrics[name] or not interactions):
                return name, float(metrics[name]), (name,)
        return (INTERACTIONS, interactions, tuple(weights)) if weights else None


PLATFORMS: Mapping[str, PlatformRules] = {
    "instagram": PlatformRules(reach_metrics=("reach", "views", "impressions", "plays")),
    "linkedin": PlatformRules(reach_metrics=("impressions", "views", "reach")),
    "reddit": PlatformRules(reach_metrics=()),
    "threads": PlatformRules(reach_metrics=("views", "impressions", "reach")),
    "x": PlatformRules(reach_metrics=("impressions", "views")),
    # Watched for weeks, and counts that the owner hides are written as 0 by some exports.
    "youtube": PlatformRules(
        reach_metrics=("views",), zero_means_disabled=("likes", "dislikes", "comments"), final_at="30d"
    ),
}
"""Where a platform is not named, the defaults hold."""


class LabelRules:
    """The rules of every platform: the table above, changed by what a file says."""

    def __init__(self, changes: Mapping[str, Mapping[str, object]] | None = None) -> None:
        given = dict(changes or {})
        everywhere = given.pop(EVERY_PLATFORM, {})
        self._default = PlatformRules.model_validate({**everywhere})
        self._platforms = {
            name: PlatformRules.model_validate({**everywhere, **_stated(PLATFORMS.get(name)), **given.get(name, {})})
            for name in {*PLATFORMS, *given}
        }

    def of(self, platform: str) -> PlatformRules:
        """The platform's rules."""
        return self._platforms.get(platform, self._default)

    def key(self, platform: str, classifier_version: str) -> str:
        """What a label depends on besides posts and snapshots."""
        rules = hashlib.sha256(self.of(platform).model_dump_json().encode()).hexdigest()
        return f"{classifier_version}:{rules[:16]}"


def _stated(rules: PlatformRules | None) -> dict[str, object]:
    return rules.model_dump(exclude_unset=True) if rules else {}


def read_label_rules(text: str, source: str) -> LabelRules:
    """The rules that a YAML file makes of the table.

    Args:
        text: a mapping of platforms, or `default`, to the rules that are other there.
        source: the file's name, for messages.

    Raises:
        InvalidInput: it is no such file; the message names the key and what is allowed.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"label rules {source}: not YAML ({' '.join(str(error).split())})") from error
    content = {} if content is None else content
    if not isinstance(content, dict) or not all(isinstance(each, dict) for each in content.values()):
        raise InvalidInput(f"label rules {source}: platforms with their rules are expected (docs/outcomes.md)")
    for name, changes in content.items():
        try:
            if name != EVERY_PLATFORM:
                check_platform(name)
            PlatformRules.model_validate(changes)
        except ValidationError as error:
            faults = "; ".join(_explain(str(name), fault["loc"], fault["msg"]) for fault in error.errors())
            raise InvalidInput(f"label rules {source}: {faults} (docs/outcomes.md has the keys)") from error
        except InvalidInput as error:
            raise InvalidInput(f"label rules {source}: {error}") from error
    return LabelRules(content)


def _explain(platform: str, location: tuple[int | str, ...], message: str) -> str:
    key = ".".join([platform, *(str(part) for part in location)])
    if message.startswith("Extra inputs"):
        return f"{key}: no such key; allowed are {', '.join(PlatformRules.model_fields)}"
    return f"{key}: {message.removeprefix('Value error, ')}"
