"""Tables and pictures for people."""

import base64
import dataclasses
import math
import re

from everreach_assets.domain.strategies import Claim
from everreach_assets.plots import claims_plot
from everreach_assets.reports import claim_list, label_table

CLAIM = Claim(
    trait="type thread",
    evidence="rule",
    effect=math.log(2),
    interval=(math.log(1.5), math.log(2.5)),
    n=12,
    exemplars=["x:a", "x:b"],
    counter_exemplars=["x:z"],
)


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]


def test_labels_are_a_row_a_platform_in_the_order_of_names() -> None:
    head, rule, *body = rows(label_table({"x": {"viral": 2, "flop": 1}, "facebook": {"insufficient_data": 7}}))
    assert head == ["platform", "viral", "hit", "average", "underperform", "flop", "insufficient_data"]
    assert set(rule) == {"---"}
    assert body == [["facebook", "0", "0", "0", "0", "0", "7"], ["x", "2", "0", "0", "0", "1", "0"]]


def test_claims_are_ratios_with_the_posts_that_they_rest_on() -> None:
    assert claim_list([CLAIM]).splitlines() == [
        "- do more: type thread: 2.00 times the others [1.50, 2.50], n = 12, rule",
        "  - best: x:a, x:b; worst: x:z",
    ]


def test_a_trait_that_does_worse_is_one_to_do_less() -> None:
    worse = dataclasses.replace(CLAIM, effect=-CLAIM.effect)
    assert claim_list([worse]).startswith("- do less: type thread: 0.50 times")


def test_a_bar_in_a_cell_breaks_no_table() -> None:
    *_, row = rows(label_table({"this | that": {}}))
    assert len(row) == 7
    assert row[0] == r"this \| that"


def test_no_rows_are_a_head_alone() -> None:
    assert claim_list([]) == "no claims yet"
    assert len(rows(label_table({}))) == 2


def test_the_picture_is_a_png_inside_markdown() -> None:
    picture = claims_plot([CLAIM, dataclasses.replace(CLAIM, trait="#$weird_tag$ | 日本", evidence="hypothesis")] * 20)
    found = re.fullmatch(r"!\[effects\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", picture)
    assert found
    assert base64.b64decode(found[1]).startswith(b"\x89PNG")
    assert len(picture) < 200_000  # it is stored with every materialisation


def test_no_claims_are_no_picture() -> None:
    assert claims_plot([]) == "no claims yet"
