"""Pictures for Dagster's metadata, as Markdown images with the picture inside."""

import base64
import io
import math
import warnings
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from everreach_assets.domain.strategies import Claim
from resources.retention.plans import Ages

MOST_CLAIMS = 15
AGE_STEPS = 50
RULE_COLOUR, HYPOTHESIS_COLOUR = "#1b7f5c", "#b8b8b8"


def claims_plot(claims: Sequence[Claim]) -> str:
    """The claims' effects and intervals: ratio to the other posts, on a log scale; rules green, others grey."""
    shown = list(claims)[:MOST_CLAIMS][::-1]
    if not shown:
        return "no claims yet"
    figure = Figure(figsize=(8, 1 + 0.35 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for row, claim in enumerate(shown):
        low, high = (math.exp(bound) for bound in claim.interval)
        colour = RULE_COLOUR if claim.evidence == "rule" else HYPOTHESIS_COLOUR
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
    return _image("effects", figure)


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
