"""What the scrubber finds and leaves on the labelled sets, and how fast. Run it with `make bench-scrubbing`.

Times are those of the processor: one core works, whatever else the machine does.

It prints counts only, no text. See docs/privacy.md.
"""

import argparse
import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from everreach_assets.domain.errors import Refused
from everreach_assets.domain.pii_scores import Outcome, Score, measure
from everreach_assets.domain.scrubbing import SCRUBBER_VERSION, Scrubber
from resources.name_model import PresidioNames
from tests.labelled_sets import LabelledSet, Part, labelled_sets

POSTS_PER_SECOND_AIM = 2_000
HOSTILE_AIM_SECONDS = 1.0
ALTERED_AIM = 0.002
RECALL_AIMS = {"email": 0.99, "phone": 0.97}
PRECISION_AIMS = {"email": 0.99, "phone": 0.90}
WITHOUT_A_CUE = "phones, national without a cue"
"""Such numbers are as good as any count or id in most regions: recall is printed without them, too."""

HOSTILE = (
    *("a", "a@", "a@b@", "x@a.", "a@b.co ", "a at b dot com ", "[at]", '"@', "@anna ", "&#64;", "%40"),
    *("1 ", "1-", "0.", "(1)", "+1", "1.1.1.1 ", "4111 1111 ", "415-555-2671 ", "call me 123 456 "),
    *("[", "((((", "[EMAIL]", "[NAME", "{PHONE}"),
    *(
        "é",
        "\u200b",
        "\uff20a",
        "\ufdfa",
        "a\u0301",
        "jo\u200bhn@example.com ",
        "\u4f8b@",
        "Thanks,\n",
        ". Hi A",
        "--\n",
    ),
)
"""A megabyte of each: what looks like addresses, numbers, brackets, placeholders and names, and other scripts."""


@dataclass(frozen=True)
class SetFigures:
    """One set: its texts by the second, and what became of them."""

    name: str
    texts_per_second: float
    outcome: Outcome


@dataclass(frozen=True)
class Figures:
    """A whole run."""

    version: str
    part: str
    load: float
    sets: list[SetFigures]
    hostile_seconds: dict[str, float]

    def score(self, kind: str, *, but: str = "") -> Score:
        """Over the sets in which the kind is labelled, but for the one of that name."""
        total = Score()
        for each in self.sets:
            if each.name != but and (score := each.outcome.scores.get(kind)):
                for name, count in asdict(score).items():
                    setattr(total, name, getattr(total, name) + count)
        return total


def run(
    folder: Path,
    *,
    part: Part = "all",
    hostile_bytes: int = 1_000_000,
    model: Path | None = None,
    trained_on: str | None = None,
) -> Figures:
    """Measure every set, then the hostile texts; with a name model also the strangers' names that it finds.

    Args:
        folder: of the shared data.
        part: of each set.
        hostile_bytes: of each hostile text.
        model: folder of a spaCy pipeline.
        trained_on: a set that the model has seen; it is left out of the model's figures.
    """
    load = os.getloadavg()[0]
    figures = [_measured(each) for each in labelled_sets(folder, part)]
    version = SCRUBBER_VERSION
    if model:
        scrubber = Scrubber(name_model=PresidioNames(model))
        version = scrubber.version
        strangers = (
            each
            for each in labelled_sets(folder, part)
            if (each.name.endswith("strangers") or not each.kinds) and each.name != trained_on
        )
        figures += [_measured(LabelledSet(f"{s.name}, with the model", s.texts, s.kinds, scrubber)) for s in strangers]
    return Figures(version, part, load, figures, dict(_hostile_seconds(hostile_bytes)))


def _measured(given: LabelledSet) -> SetFigures:
    start = time.process_time()
    outcome = measure(given.scrubber, given.texts, given.kinds)
    return SetFigures(given.name, outcome.texts / (time.process_time() - start), outcome)


def _hostile_seconds(size: int) -> Iterator[tuple[str, float]]:
    scrubber = Scrubber(["Anna Smith"], handles_are_personal=True)
    for piece in HOSTILE:
        text = piece * (size // len(piece))
        start = time.process_time()
        with contextlib.suppress(Refused):  # as good an end as any: the text is not embedded
            scrubber.scrub(text)
        yield piece, time.process_time() - start


def print_figures(figures: Figures) -> None:
    print(f"scrubber {figures.version}, {figures.part} of each set, load when it began {figures.load:.2f}\n")
    for each in figures.sets:
        outcome = each.outcome
        print(f"{each.name}: {outcome.texts:,} texts, {each.texts_per_second:,.0f} a second")
        for kind, score in outcome.scores.items():
            print(
                f"    {kind}: {score.labelled} labelled, recall {score.recall:.4f}, precision {score.precision:.4f}, "
                f"{score.partial} partial leaks, {score.wrong} wrong"
            )
        if not outcome.scores:
            kinds = ", ".join(f"{count} with {kind}" for kind, count in sorted(outcome.texts_with.items())) or "none"
            print(f"    altered: {outcome.altered} ({outcome.altered / max(1, outcome.texts):.2%}): {kinds}")
    _print_aims(figures)


def _print_aims(figures: Figures) -> None:
    print("\nAims")
    for kind, aim in RECALL_AIMS.items():
        score, other = figures.score(kind), PRECISION_AIMS[kind]
        _aim(f"{kind} recall {score.recall:.4f}, at least {aim}", score.recall >= aim)
        if kind == "phone":
            recall = figures.score(kind, but=WITHOUT_A_CUE).recall
            _aim(f"{kind} recall without national numbers that have no cue {recall:.4f}, at least {aim}", recall >= aim)
        _aim(f"{kind} precision {score.precision:.4f}, at least {other}", score.precision >= other)
        _aim(f"{kind}: {score.partial} partial leaks, none", score.partial == 0)
    known = [each.outcome.scores["name"] for each in figures.sets if "known people" in each.name]
    _aim("names of known people: all", all(score.recall == 1 for score in known))
    posts = [each for each in figures.sets if each.name.startswith("posts,") and not each.name.endswith("model")]
    texts = sum(each.outcome.texts for each in posts)
    for each in posts:
        names = each.outcome.texts_with["name"] / max(1, each.outcome.texts)
        _aim(f"{each.name}: {names:.2%} without a name lost one, under {ALTERED_AIM:.1%}", names < ALTERED_AIM)
    speed = texts / sum(each.outcome.texts / each.texts_per_second for each in posts)
    _aim(f"posts a second: {speed:,.0f}, at least {POSTS_PER_SECOND_AIM:,}", speed >= POSTS_PER_SECOND_AIM)
    piece, worst = max(figures.hostile_seconds.items(), key=lambda item: item[1])
    _aim(f"hostile text, worst of {len(HOSTILE)}: {worst:.2f} s for {piece!a}", worst <= HOSTILE_AIM_SECONDS)


def _aim(what: str, is_met: bool) -> None:
    print(f"    {'met    ' if is_met else 'NOT MET'} {what}")


def _trained_on(data: Path, name: str, folder: Path) -> Path:
    from tests.trained_names import train_names  # spaCy is an extra

    (texts,) = (each.texts for each in labelled_sets(data) if each.name == name)
    return train_names(texts, folder / "model")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scrubbing", description=__doc__)
    default = os.environ.get("EVERREACH_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="folder of the labelled sets (default: %(default)s)")
    parser.add_argument("--part", choices=get_args(Part), default="all", help="of each set (default: %(default)s)")
    parser.add_argument("--model", type=Path, help="folder of a spaCy pipeline: measure strangers' names with it, too")
    parser.add_argument(
        "--train-on", metavar="SET", help="train a small model on the names of this set, such as 'tweets'"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file, too")
    given = parser.parse_args()
    trained_on = f"{given.train_on}, strangers" if given.train_on else None
    with tempfile.TemporaryDirectory() as folder:
        model = _trained_on(given.data, trained_on, Path(folder)) if trained_on else given.model
        figures = run(given.data, part=given.part, model=model, trained_on=trained_on)
    print_figures(figures)
    if given.json:
        given.json.write_text(json.dumps(asdict(figures), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
