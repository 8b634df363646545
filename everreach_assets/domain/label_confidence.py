"""How sure a label is: the reference resampled two hundred times (bootstrap, Efron 1979), always with the same draws.

Draws are indices into the sorted reference, sorted too: a resample's median is then two of its elements, and its MAD
the narrowest window around the median. That is exact, and ten times as fast as sorting each resample.
What does not belong here: thresholds (`outcomes.py`).
"""

import functools
import hashlib

import numpy as np
import numpy.typing as npt

from everreach_assets.domain.label_references import MAD_TO_SIGMA, SMALLEST_SPREAD, Reference

RESAMPLES = 200
DRAWS = 8
"""Different sets of draws of one size; a post's id decides which is used. More would cost memory and say no more."""

Floats = npt.NDArray[np.float64]


def resampled(reference: Reference, post_id: str, resamples: int = RESAMPLES) -> tuple[Floats, Floats]:
    """Centres and spreads, of the reference itself first and then of its resamples; both of shape (1 + resamples,)."""
    which = hashlib.blake2b(post_id.encode(), digest_size=1).digest()[0] % DRAWS
    if not reference.own_weight:
        noise = reference.centre_sd * _noise(which)[: 1 + resamples]
        spread = reference.inflation * max(reference.spread_rest, SMALLEST_SPREAD)
        return reference.centre_rest + noise, np.full(1 + resamples, spread)
    rows = np.array(reference.logs)[_draws(len(reference.logs), which)[:, : 1 + resamples]]
    medians, deviations = medians_and_deviations(rows)
    spreads = reference.spread_weight * MAD_TO_SIGMA * deviations + reference.spread_rest
    return (
        reference.own_weight * medians + reference.centre_rest,
        reference.inflation * np.maximum(spreads, SMALLEST_SPREAD),
    )


def medians_and_deviations(samples: Floats) -> tuple[Floats, Floats]:
    """Median and MAD of each column; samples of shape (n, resamples) are sorted along the first axis.

    A sample is a column and not a row, because numpy takes the minimum of long rows many times as fast.
    """
    n = len(samples)
    lower, upper = (n - 1) // 2, n // 2
    medians = (samples[lower] + samples[upper]) / 2
    below, above = medians - samples[: n - lower], samples[lower:] - medians

    def nearest(count: int) -> Floats:
        """Distance of the count-th nearest from the median: the least half-width of a window of so many."""
        widths: Floats = np.maximum(below[: n - count + 1], above[count - 1 - lower :]).min(axis=0)
        return widths

    deviations = nearest(lower + 1)
    return medians, deviations if lower == upper else (deviations + nearest(upper + 1)) / 2


@functools.lru_cache(maxsize=1_024)
def _draws(n: int, which: int) -> npt.NDArray[np.intp]:
    """Sorted indices of shape (n, 1 + RESAMPLES); the first column is the reference itself."""
    drawn = np.random.default_rng((n, which)).integers(0, n, (n, RESAMPLES), dtype=np.intp)
    return np.hstack([np.arange(n, dtype=np.intp)[:, None], np.sort(drawn, axis=0)])


@functools.cache
def _noise(which: int) -> Floats:
    return np.concatenate([[0.0], np.random.default_rng(which).standard_normal(RESAMPLES)])
