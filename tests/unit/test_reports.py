"""Tables and pictures for people."""

import base64
import datetime as dt
import math
import re
from typing import Any

from everreach_assets.domain.retention import Counts, PlanItem
from everreach_assets.domain.strategy_model import (
    Backtest,
    Change,
    Claim,
    Inputs,
    Recommendation,
    Score,
    Strategy,
    Topic,
    Verdict,
)
from everreach_assets.plots import ages_plot, claims_plot, topic_map
from everreach_assets.reports import change_list, claim_line, item_table, label_table, plan_table, strategy_summary
from resources.retention.plans import Ages

CLAIM = Claim(
    claim_id="x-format-1",
    kind="format",
    trait="type thread",
    direction="more",
    evidence="rule",
    effect=math.log(2),
    interval=(math.log(1.5), math.log(2.5)),
    n=12,
    n_effective=11.25,
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


def strategy(**changes: object) -> Strategy:
    inputs = Inputs(
        snapshot_watermark=9,
        outcomes=1_200,
        matured=900,
        labels={},
        builder_version="2",
        classifier_version="2",
    )
    return Strategy(platform="x", inputs=inputs).model_copy(update=changes)


def test_a_claim_is_a_ratio_with_its_interval_and_both_sizes() -> None:
    assert claim_line(CLAIM) == "type thread: 2.00 times the others (1.50 to 2.50), n = 12, effective 11.2, rule"


def test_the_summary_says_what_to_do_how_often_and_which_posts_to_open() -> None:
    less = CLAIM.model_copy(update={"claim_id": "x-slot-1", "trait": "mornings", "direction": "less"})
    explained = less.model_copy(
        update={"claim_id": "x-slot-2", "trait": "weekdays", "explained_by": "x-format-1", "evidence": "hypothesis"}
    )
    score = Score(spearman=0.4, spearman_interval=(0.2, 0.6), auc=None, auc_interval=None)
    full = strategy(
        claims=[CLAIM, less, explained],
        do_more=[Recommendation(claim_id="x-format-1", trait="type thread", propensity=0.48)],
        do_less=[Recommendation(claim_id="x-slot-1", trait="mornings", propensity=0.01)],
        changes=[Change(claim_id="x-format-1", trait="type thread", what="new", after="rule, 2.00 times")],
        verdict=Verdict(is_accepted=False, reason="worse than strategy 3"),
    )
    assert strategy_summary(full).splitlines() == [
        "**x**: 1,200 outcomes, 900 of them final; 2 rules, 1 hypothesis, 0 to explore",
        "",
        "**Do more**",
        "",
        "- 48% of the next posts: type thread: 2.00 times the others (1.50 to 2.50), n = 12, effective 11.2, rule",
        "  - best: x:a, x:b; worst: x:z",
        "",
        "**Do less**",
        "",
        "- 1% of the next posts: mornings: 2.00 times the others (1.50 to 2.50), n = 12, effective 11.2, rule",
        "  - best: x:a, x:b; worst: x:z",
        "",
        "**Seen, but mostly by the effect of another**",
        "",
        "- weekdays: 2.00 times the others (1.50 to 2.50), n = 12, effective 11.2, hypothesis; see type thread",
        "  - best: x:a, x:b; worst: x:z",
        "",
        "**Since the strategy before**",
        "",
        "- new: type thread (rule, 2.00 times)",
        "",
        "Held: worse than strategy 3",
    ]
    fields: dict[str, Any] = {
        "trained_on": 80,
        "tested_on": 20,
        "strategy": score,
        "baselines": {"account_mean": score},
    }
    tested = Backtest.model_construct(**fields)
    assert strategy_summary(strategy(backtest=tested)).splitlines()[-1] == (
        "Backtest: 20 posts held out, fitted on 80; this strategy: Spearman 0.40 (0.20 to 0.60), AUC unknown; "
        "account mean: Spearman 0.40 (0.20 to 0.60), AUC unknown"
    )


def test_a_strategy_without_claims_says_so() -> None:
    assert "Nothing stands out yet" in strategy_summary(strategy())


def test_no_changes_are_said() -> None:
    assert change_list([]) == "no changes"


def test_a_type_that_is_markdown_is_shown_as_it_is_written() -> None:
    hostile = CLAIM.model_copy(update={"trait": "type [a](http://b)\n# <img> | *c*"})
    assert claim_line(hostile).startswith(r"type \[a\](http://b) # \<img\> \| \*c\*: 2.00")


def test_a_bar_in_a_cell_breaks_no_table() -> None:
    *_, row = rows(label_table({"this | that": {}}))
    assert len(row) == 7
    assert row[0] == r"this \| that"


def test_no_rows_are_a_head_alone() -> None:
    assert len(rows(label_table({}))) == 2


def test_the_picture_is_a_png_inside_markdown() -> None:
    picture = claims_plot(
        [CLAIM, CLAIM.model_copy(update={"trait": "#$weird_tag$ | 日本", "evidence": "hypothesis"})] * 20
    )
    found = re.fullmatch(r"!\[effects\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", picture)
    assert found
    assert base64.b64decode(found[1]).startswith(b"\x89PNG")
    assert len(picture) < 200_000  # it is stored with every materialisation


def test_no_claims_are_no_picture() -> None:
    assert claims_plot([]) == "no claims yet"


def test_the_topic_map_is_a_picture_also_of_one_topic_and_of_strange_terms() -> None:
    topic = Topic(
        topic_id="topic-1",
        terms=["$pay$", "日本"],
        posts=12,
        standing=0.0,
        x=0.0,
        y=0.0,
        central_posts=["x:a"],
    )
    assert topic_map([topic]).startswith("![topics](data:image/png;base64,")
    assert topic_map([]) == "no topics: too few posts have a vector"


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
