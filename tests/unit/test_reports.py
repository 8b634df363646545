"""Tables and pictures for people."""

import base64
import dataclasses
import datetime as dt
import math
import re

from everreach_assets.domain.retention import Counts, PlanItem
from everreach_assets.domain.strategies import Claim
from everreach_assets.plots import ages_plot, claims_plot
from everreach_assets.reports import claim_list, item_table, label_table, plan_table
from resources.retention.plans import Ages

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


def test_the_table_of_a_plan_has_every_document_once() -> None:
    counts = Counts("content_embeddings", {"expired": 3, "held": 1, "young": 6})
    *_, row = plan_table([counts]).splitlines()
    assert row == "| content_embeddings | 10 | 3 | 1 | 0 | 0 | 6 | 0 | 0 |"


def test_what_is_planned_is_shown_with_its_rule() -> None:
    item = PlanItem(
        "content_embeddings", "x:1", 1, None, "365 days by published_at", dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    )
    assert "| content_embeddings | x:1 | 365 days by published_at | 2026-01-02 |" in item_table([item])
    assert item_table([]) == "nothing has expired"


def test_the_plot_of_ages_leaves_out_collections_without_any() -> None:
    ages = {"content_embeddings": Ages({0: 3, 400: 2}, "published_at", 365), "lesson_embeddings": Ages({}, "x", None)}
    assert ages_plot(ages).startswith("![ages](data:image/png;base64,")
    assert ages_plot({"lesson_embeddings": Ages({}, "learned_at", None)}) == "no document with a known age"
