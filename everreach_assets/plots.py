"""Pictures for Dagster's metadata, as Markdown images with the picture inside."""

import base64
import io
import math
import warnings
from collections.abc import Mapping, Sequence

from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from everreach_assets.domain.strategy_model import Claim, Evidence, Topic
from resources.retention.plans import Ages

MOST_CLAIMS = 15
AGE_STEPS = 50
RULE_COLOUR = "#1b7f5c"
COLOURS: dict[Evidence, str] = {"rule": RULE_COLOUR, "hypothesis": "#e08a1e", "explore": "#9a9a9a"}
TERMS_SHOWN = 3
LARGEST_BUBBLE = 1_500.0
"""In square points."""


def claims_plot(claims: Sequence[Claim]) -> str:
    """The claims' effects and intervals: ratio to the other posts, on a log scale, in a colour by evidence."""
    shown = list(claims)[:MOST_CLAIMS][::-1]
    if not shown:
        return "no claims yet"
    figure = Figure(figsize=(8, 1 + 0.35 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for row, claim in enumerate(shown):
        low, high = (math.exp(bound) for bound in claim.interval)
        colour = COLOURS[claim.evidence]
        axes.plot([low, high], [row, row], color=colour, linewidth=3)
        axes.plot([claim.ratio], [row], "o", color=colour)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_yticks(range(len(shown)), [f"{claim.trait} (n={claim.n})" for claim in shown], parse_math=False)
    axes.set_xlabel("times the other posts, with the claim's interval")
    present = [evidence for evidence in COLOURS if any(claim.evidence == evidence for claim in shown)]
    figure.legend(
        [Line2D([], [], color=COLOURS[evidence], marker="o", linewidth=3) for evidence in present],
        present,
        loc="outside upper right",
        ncols=len(present),
        frameon=False,
    )
    return _image("effects", figure)


def topic_map(topics: Sequence[Topic]) -> str:
    """The topics where they lie to each other: size by posts, colour by how their posts do, named by their terms."""
    if not topics:
        return "no topics: too few posts have a vector"
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    topics = sorted(topics, key=lambda topic: -topic.standing)
    most = max(topic.posts for topic in topics)
    furthest = max(0.1, *(abs(topic.standing) for topic in topics))
    bubbles = axes.scatter(
        [topic.x for topic in topics],
        [topic.y for topic in topics],
        s=[LARGEST_BUBBLE * topic.posts / most for topic in topics],
        c=[topic.standing for topic in topics],
        cmap="PuOr_r",
        norm=TwoSlopeNorm(0.0, -furthest, furthest),
        edgecolors="black",
        linewidths=0.5,
        alpha=0.8,
    )
    numbers = range(1, len(topics) + 1)
    for number, topic in zip(numbers, topics, strict=True):
        axes.annotate(str(number), (topic.x, topic.y), ha="center", va="center", fontsize=8)
    axes.margins(0.15)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title("near is alike: two principal components of the topics' centres", fontsize=9)
    # The names stand beside the map: topics that are alike lie upon each other.
    figure.legend(
        [Line2D([], [], linestyle="", marker=f"${number}$", color="black") for number in numbers],
        [_named(topic) for topic in topics],
        loc="outside right upper",
        fontsize=8,
        frameon=False,
    )
    bar = figure.colorbar(
        bubbles, ax=axes, location="bottom", shrink=0.6, format=lambda standing, _: f"{math.exp(standing):.2f}"
    )
    bar.set_label("times the typical post of the account", fontsize=8)
    return _image("topics", figure)


def _named(topic: Topic) -> str:
    terms = ", ".join(topic.terms[:TERMS_SHOWN]).replace("$", r"\$") or "similar posts"
    return f"{terms}: {topic.posts} posts, {math.exp(topic.standing):.2f} times"


def ages_plot(ages: Mapping[str, Ages]) -> str:
    """How old the documents of each collection are, in fifty steps, with a line at the age that the policy allows."""
    shown = {collection: each for collection, each in ages.items() if each.documents}
    if not shown:
        return "no document with a known age"
    figure = Figure(figsize=(8, 0.4 + 1.6 * len(shown)), layout="constrained")
    for axes, (collection, each) in zip(figure.subplots(len(shown), squeeze=False)[:, 0], shown.items(), strict=True):
        longest = max(*each.documents, AGE_STEPS, each.max_days or 0)
        axes.hist(
            list(each.documents),
            bins=AGE_STEPS,
            range=(0, longest + 1),
            weights=list(each.documents.values()),
            color=RULE_COLOUR,
        )
        if each.max_days is not None:
            axes.axvline(each.max_days, color="black", linewidth=0.8)
        axes.set_xlim(0, 1.02 * (longest + 1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.set_title(f"{collection}: age in days by {each.by}", fontsize=9, loc="left")
        axes.set_ylabel("documents", fontsize=8)
    return _image("ages", figure)


def _image(name: str, figure: Figure) -> str:
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a hashtag may be of any script; a box stands for it
        figure.savefig(picture, format="png", dpi=80)
    return f"![{name}](data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()})"
