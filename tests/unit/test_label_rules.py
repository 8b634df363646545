"""The rules of platforms: the table, what a file changes, and what it may not say."""

import re

import pytest

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.label_rules import PLATFORMS, LabelRules, PlatformRules, read_label_rules
from tests.unit.test_docs import ROOT


def rules(text: str) -> LabelRules:
    return read_label_rules(text, "rules.yaml")


def test_a_file_changes_what_it_states_and_nothing_else() -> None:
    changed = rules("youtube: {viral_floor: 5}\ndefault: {final_at: 24h, viral_floor: 7}\nnew_one: {reach_metrics: []}")
    assert (changed.of("youtube").viral_floor, changed.of("youtube").final_at) == (5, "30d")
    assert changed.of("youtube").zero_means_disabled == PLATFORMS["youtube"].zero_means_disabled
    assert (changed.of("x").viral_floor, changed.of("x").final_at) == (7, "24h")
    assert (changed.of("new_one").reach_metrics, changed.of("new_one").viral_floor) == ((), 7)
    assert changed.of("unheard_of").viral_floor == 7
    assert rules("").of("tiktok") == PlatformRules()


def test_another_rule_or_version_is_another_key_and_another_platforms_rule_is_not() -> None:
    plain, changed = LabelRules(), rules("x: {viral_floor: 5}")
    assert plain.key("x", "2") != changed.key("x", "2") != changed.key("x", "3")
    assert plain.key("tiktok", "2") == changed.key("tiktok", "2")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("youtube: {metriks: [views]}", ["youtube.metriks", "no such key", "reach_metrics", "final_at"]),
        ("youtube: {reach_metrics: [viewz]}", ["youtube.reach_metrics.0", "'viewz' is not one of views"]),
        ("x: {final_at: 2d}", ["x.final_at", "'7d'"]),
        ("x: {viral_floor: -1}", ["x.viral_floor", "greater than or equal to 0"]),
        ("x: {viral_floor: .inf}", ["x.viral_floor"]),
        ("x: {interaction_weights: {likes: 0}}", ["x.interaction_weights.likes", "greater than 0"]),
        ("X: {}", ["platform is no such name"]),
        ("- x", ["platforms with their rules are expected"]),
        ("x: 5", ["platforms with their rules are expected"]),
        ("x: [", ["not YAML"]),
    ],
)
def test_what_is_wrong_is_refused_by_name(text: str, parts: list[str]) -> None:
    with pytest.raises(InvalidInput) as refused:
        rules(text)
    for part in ("rules.yaml", *parts):
        assert part in str(refused.value)


def test_the_example_in_the_docs_is_a_rules_file_and_the_table_there_is_the_table() -> None:
    page = (ROOT / "docs" / "outcomes.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    assert rules(example[1]).of("youtube").viral_floor == 10_000
    for name, each in PLATFORMS.items():
        metrics = ", ".join(each.reach_metrics) or "none: interactions"
        days = each.final_at.removesuffix("d")
        row = rf"\| {name} \| {metrics} \| {', '.join(each.zero_means_disabled)} ?\| {days} d \|"
        assert re.search(row, page), name
