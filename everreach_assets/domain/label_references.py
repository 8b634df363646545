"""What a post is compared with: the earlier posts of its type, account, niche and platform, pooled where they are few.

    centre of the type     = (n median + 10 centre of the account) / (n + 10)
    centre of the account  = (n median + kappa centre of the parent) / (n + kappa)
    centre of the parent   = (n median of the niche + 10 median of the platform) / (n + 10)
    kappa                  = variance within accounts / variance between accounts

in log space: the compromise of Efron and Morris (1975) in the form of Gelman and Hill (2007, ch. 12), with medians for
means. Kappa is estimated from the platform's own accounts, because they differ a hundredfold: with a fixed kappa every
post of a large account that is new here would be viral. A history of 30 posts stands by itself, so that other accounts
do not move it. What does not belong here: labels (`outcomes.py`), resamples (`label_confidence.py`).
"""

import bisect
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

REFERENCE_POSTS = 100
REFERENCE_SECONDS = 180 * 86_400
ENOUGH_BY_ITSELF = 30
"""The median of 30 posts has a one-sigma error of about 26 % at sigma 1."""
MINIMUM_OF_ACCOUNT = 5
MINIMUM_OF_PARENT = 20
FIXED_KAPPA = 10.0
"""Posts that the parent counts for, where it is not estimated: types within an account, niches, spreads."""
KAPPA_BOUNDS = (1 / 16, 16.0)
KAPPA_UNKNOWN = 1 / 16
"""Of accounts whose differences cannot be told: they may be ten thousandfold, and then others say next to nothing."""
MINIMUM_OF_GROUPS = 5
"""Accounts, and posts beyond the first of each, below which a variance is not estimated."""
SMALLEST_SPREAD = 0.25
"""In log space: below it, a steady account's every tenth like would be an event."""
MAD_TO_SIGMA = 1.4826
"""Of the normal distribution (Rousseeuw and Croux 1993)."""

LATEST = -1
"""In place of a checkpoint: each post by its latest observation, whatever its age."""

Level = Literal["type", "account", "niche", "platform"]


@dataclass(frozen=True)
class Reference:
    """What a post is compared with.

    centre = own_weight * median(logs) + centre_rest
    spread = inflation * max(spread_weight * 1.4826 MAD(logs) + spread_rest, 0.25)

    Attributes:
        level: the narrowest one that has enough posts; `logs` are ln(1 + value) of its posts, sorted.
        centre_sd: what is uncertain about the centre beyond the sampling of `logs`, one sigma, in log space.
        is_pooled: whether posts of other accounts have a part in it.
        same_age: whether all were observed at the post's own checkpoint.
    """

    level: Level
    logs: tuple[float, ...]
    own_weight: float = 1.0
    centre_rest: float = 0.0
    spread_weight: float = 1.0
    spread_rest: float = 0.0
    inflation: float = 1.0
    centre_sd: float = 0.0
    is_pooled: bool = False
    same_age: bool = True

    def centre(self, own: Sequence[float]) -> float:
        """The centre, with these in place of `logs`."""
        return self.own_weight * median(own) + self.centre_rest if own else self.centre_rest


@dataclass(frozen=True)
class Place:
    """Where a post stands: whose it is, of what kind, when it was published (seconds since 1970)."""

    account: str
    post_type: str
    niche: str
    at: float


class References:
    """The posts of one platform that were published so far. Ask with `of`, then `add`, in order of publication."""

    def __init__(self) -> None:
        self._windows: dict[tuple[object, ...], _Window] = {}
        self._accounts: dict[str, _Accounts] = {}

    def add(self, place: Place, latest: tuple[int, str, float], by_slot: Sequence[tuple[int, str, float]]) -> None:
        """Let a post count for those after it.

        Args:
            place: of the post.
            latest: checkpoint, metric and ln(1 + value) of its latest observation.
            by_slot: the same of the last observation at each checkpoint.
        """
        for slot, metric, log in by_slot:
            for key in _keys(place, metric, slot).values():
                self._window(key).add(place.at, slot, log)
        slot, metric, log = latest
        for key in _keys(place, metric, LATEST).values():
            self._window(key).add(place.at, slot, log)
        self._accounts.setdefault(metric, _Accounts()).add(place.account, log)

    def is_by_itself(self, place: Place, metric: str, slot: int) -> bool:
        """Whether a post is compared with its own account's posts alone, whatever other accounts do."""
        return len(self._logs(("account", metric, slot, place.account), place.at)) >= ENOUGH_BY_ITSELF

    def of(self, place: Place, metric: str, slot: int) -> Reference | None:
        """What a post is compared with; None where there is too little.

        First posts at the same checkpoint; where the account has too few, its posts by latest observations that are at
        least as old; then other accounts' in the same order.
        """
        minimums: dict[Level, int] = {"account": MINIMUM_OF_ACCOUNT, "platform": MINIMUM_OF_PARENT}
        for level, minimum in minimums.items():
            for at_slot in (slot, LATEST):
                keys = _keys(place, metric, at_slot)
                windows = {name: self._logs(key, place.at, least_slot=slot) for name, key in keys.items()}
                if len(windows[level]) >= minimum:
                    return self._pooled(metric, windows, same_age=at_slot == slot)
        return None

    def _pooled(self, metric: str, windows: Mapping[Level, Sequence[float]], *, same_age: bool) -> Reference:
        of_type, of_account = windows["type"], windows["account"]
        if len(of_type) >= ENOUGH_BY_ITSELF:
            return Reference("type", tuple(of_type), same_age=same_age)
        if len(of_account) < ENOUGH_BY_ITSELF and len(windows["platform"]) >= MINIMUM_OF_PARENT:
            account = self._with_parent(metric, windows, same_age=same_age)
        else:
            account = Reference("account", tuple(of_account), same_age=same_age)
        return _with_type(account, of_type, of_account) if of_type and account.own_weight else account

    def _with_parent(self, metric: str, windows: Mapping[Level, Sequence[float]], *, same_age: bool) -> Reference:
        of_account, of_niche, of_platform = windows["account"], windows.get("niche", ()), windows["platform"]
        n = len(of_account)
        kappa, within = self._accounts[metric].variances()
        level: Level = "niche" if len(of_niche) >= MINIMUM_OF_PARENT else "platform"
        parent = median(of_platform)
        if of_niche:
            parent += len(of_niche) / (len(of_niche) + FIXED_KAPPA) * (median(of_niche) - parent)
        own, own_spread = n / (n + kappa), n / (n + FIXED_KAPPA)
        parent_spread = within or MAD_TO_SIGMA * deviation(windows[level])
        uncertainty = 1 / (n + kappa) if within else 0.0
        pooled = Reference(
            "account",
            tuple(of_account),
            own_weight=own,
            centre_rest=(1 - own) * parent,
            spread_weight=own_spread,
            spread_rest=(1 - own_spread) * parent_spread,
            inflation=math.sqrt(1 + uncertainty),
            is_pooled=True,
            same_age=same_age,
        )
        if n >= MINIMUM_OF_ACCOUNT:
            return pooled
        # Too few to be resampled: they have their part in the centre, and the uncertainty of that is what counts.
        return replace(
            pooled,
            level=level,
            logs=tuple(windows[level]),
            own_weight=0.0,
            centre_rest=pooled.centre(of_account),
            spread_weight=0.0,
            spread_rest=own_spread * MAD_TO_SIGMA * deviation(of_account) + pooled.spread_rest,
            centre_sd=parent_spread * math.sqrt(uncertainty),
        )

    def _window(self, key: tuple[object, ...]) -> "_Window":
        found = self._windows.get(key)
        if found is None:
            found = self._windows[key] = _Window(is_mixed=key[2] == LATEST)
        return found

    def _logs(self, key: tuple[object, ...], at: float, *, least_slot: int = 0) -> Sequence[float]:
        found = self._windows.get(key)
        return found.logs(at, least_slot) if found else ()


def _with_type(account: Reference, of_type: Sequence[float], of_account: Sequence[float]) -> Reference:
    """Pool the posts of a type, fewer than 30, towards their account."""
    share = len(of_type) / (len(of_type) + FIXED_KAPPA)
    if len(of_type) < MINIMUM_OF_ACCOUNT:
        rest = share * median(of_type) + (1 - share) * account.centre_rest
        return replace(account, own_weight=(1 - share) * account.own_weight, centre_rest=rest)
    spread = account.spread_weight * MAD_TO_SIGMA * deviation(of_account) + account.spread_rest
    return replace(
        account,
        level="type",
        logs=tuple(of_type),
        own_weight=share,
        centre_rest=(1 - share) * account.centre(of_account),
        spread_weight=share,
        spread_rest=(1 - share) * spread,
    )


def _keys(place: Place, metric: str, slot: int) -> dict[Level, tuple[object, ...]]:
    """Of the windows of type, account, platform and, where one is known, niche; the third part is the checkpoint."""
    keys: dict[Level, tuple[object, ...]] = {
        "type": ("type", metric, slot, place.account, place.post_type),
        "account": ("account", metric, slot, place.account),
        "platform": ("platform", metric, slot),
    }
    return keys | {"niche": ("niche", metric, slot, place.niche)} if place.niche else keys


def median(ordered: Sequence[float]) -> float:
    """The median of what is sorted already."""
    n = len(ordered)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def deviation(ordered: Sequence[float]) -> float:
    """The median distance from the median (MAD) of what is sorted already; 0 of nothing."""
    if not ordered:
        return 0.0
    centre = median(ordered)
    return median(sorted(abs(each - centre) for each in ordered))


class _Window:
    """The last posts of one level, at most a hundred of 180 days; sorted too, unless of mixed ages."""

    __slots__ = ("_entries", "_sorted")

    def __init__(self, *, is_mixed: bool) -> None:
        self._entries: deque[tuple[float, int, float]] = deque()
        self._sorted: list[float] | None = None if is_mixed else []

    def add(self, at: float, slot: int, log: float) -> None:
        if len(self._entries) == REFERENCE_POSTS:
            self._drop_first()
        self._entries.append((at, slot, log))
        if self._sorted is not None:
            bisect.insort(self._sorted, log)

    def logs(self, at: float, least_slot: int) -> Sequence[float]:
        while self._entries and self._entries[0][0] < at - REFERENCE_SECONDS:
            self._drop_first()
        if self._sorted is not None:
            return self._sorted
        return sorted(log for _, slot, log in self._entries if slot >= least_slot)

    def _drop_first(self) -> None:
        *_, log = self._entries.popleft()
        if self._sorted is not None:
            del self._sorted[bisect.bisect_left(self._sorted, log)]


@dataclass
class _Accounts:
    """Running variance within and between accounts, of ln(1 + value); Welford (1962) within, moments between."""

    counts: dict[str, int] = field(default_factory=dict)
    means: dict[str, float] = field(default_factory=dict)
    squares_within: float = 0.0
    posts: int = 0
    sum_of_means: float = 0.0
    squares_of_means: float = 0.0
    inverse_counts: float = 0.0

    def add(self, account: str, log: float) -> None:
        n, mean = self.counts.get(account, 0), self.means.get(account, 0.0)
        moved = mean + (log - mean) / (n + 1)
        if n:
            self.squares_within += (log - mean) * (log - moved)
            self.sum_of_means -= mean
            self.squares_of_means -= mean * mean
            self.inverse_counts -= 1 / n
        self.counts[account], self.means[account] = n + 1, moved
        self.posts += 1
        self.sum_of_means += moved
        self.squares_of_means += moved * moved
        self.inverse_counts += 1 / (n + 1)

    def variances(self) -> tuple[float, float | None]:
        """Kappa, and the spread within accounts where it can be told.

        Both are rounded, to a power of two and to a twentieth: else each post that comes would move by a hair the
        label of every post of a thin account.
        """
        accounts, degrees = len(self.counts), self.posts - len(self.counts)
        if degrees < MINIMUM_OF_GROUPS:
            return KAPPA_UNKNOWN, None
        within = self.squares_within / degrees
        spread = max(round(20 * math.sqrt(max(within, 0.0))) / 20, SMALLEST_SPREAD)
        if accounts < MINIMUM_OF_GROUPS:
            return KAPPA_UNKNOWN, spread
        of_means = (self.squares_of_means - self.sum_of_means**2 / accounts) / (accounts - 1)
        between = of_means - within * self.inverse_counts / accounts
        least, most = KAPPA_BOUNDS
        if between <= within / most:
            return most, spread
        return 2.0 ** round(math.log2(max(within / between, least))), spread
