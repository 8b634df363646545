"""How often the strategy of a sample claims what was planted, and what was not. Run it with `make bench-claims`.

Two questions, each on strategies of all of the sample's platforms: is the planted pattern a rule and the planted noise
none, on samples of other seeds; and is anything a rule where the outcomes are shuffled within their accounts, so that
nothing is there to find.
"""

import argparse
import time
from collections import Counter
from dataclasses import dataclass

from everreach_assets.domain.sample import NOISE_HASHTAG, SEED
from everreach_assets.domain.strategies import build_strategy
from everreach_assets.domain.strategy_model import Strategy
from tests.labelled_sample import INPUTS, PLANTED, labelled_sample, sample_strategy, sample_vectors, search_in
from tests.planted import shuffled_within_accounts


@dataclass(frozen=True)
class ClaimFigures:
    """Strategies of which something is true, by platform.

    Attributes:
        found: the planted pattern is a rule; of `seeds` samples.
        noisy: the planted noise is a rule; of as many.
        false: anything is a rule; of `shuffles` shuffles.
    """

    seeds: int
    shuffles: int
    found: Counter[str]
    noisy: Counter[str]
    false: Counter[str]
    seconds: float


def measure(seeds: int, shuffles: int) -> ClaimFigures:
    start = time.perf_counter()
    found, noisy, false = Counter[str](), Counter[str](), Counter[str]()
    for platform, trait in PLANTED.items():
        for seed in range(1, seeds + 1):
            named = rules(sample_strategy(platform, seed))
            found[platform] += trait in named
            noisy[platform] += NOISE_HASHTAG.lower() in named
        outcomes, vectors = labelled_sample(SEED, platform), sample_vectors(SEED, platform)
        for seed in range(shuffles):
            mixed = shuffled_within_accounts(outcomes, seed)
            built = build_strategy(platform, mixed, vectors, search_in(mixed, vectors), inputs=INPUTS)
            false[platform] += bool(rules(built))
    return ClaimFigures(seeds, shuffles, found, noisy, false, time.perf_counter() - start)


def rules(strategy: Strategy) -> set[str]:
    """The traits that are rules."""
    return {claim.trait for claim in strategy.claims if claim.evidence == "rule"}


def print_figures(figures: ClaimFigures) -> None:
    for platform, trait in PLANTED.items():
        print(
            f"{platform}: '{trait}' is a rule in {figures.found[platform]} of {figures.seeds} samples, the noise in "
            f"{figures.noisy[platform]}; shuffled, {figures.false[platform]} of {figures.shuffles} have a rule"
        )
    of = len(PLANTED)
    print(
        f"together: {figures.found.total()} of {of * figures.seeds}, noise {figures.noisy.total()}; shuffled "
        f"{figures.false.total()} of {of * figures.shuffles}; {figures.seconds:.0f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.claims", description=__doc__)
    parser.add_argument("--seeds", type=int, default=40, help="samples (default: %(default)s)")
    parser.add_argument("--shuffles", type=int, default=60, help="of each platform (default: %(default)s)")
    given = parser.parse_args()
    print_figures(measure(given.seeds, given.shuffles))


if __name__ == "__main__":
    main()
