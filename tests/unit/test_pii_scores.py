"""The counting of spans, on texts small enough to count by hand."""

from everreach_assets.domain.pii_scores import LabelledText, Score, measure
from everreach_assets.domain.scrubbing import Removal, Scrubber


def test_a_span_goes_whole_in_part_or_not_at_all() -> None:
    score = Score()
    score.add([(0, 4), (10, 14), (20, 24)], [(0, 4), (10, 12), (30, 34)])
    assert (score.labelled, score.covered, score.partial, score.removed, score.wrong) == (3, 1, 1, 3, 1)
    assert score.recall == 1 / 3
    assert score.precision == 2 / 3


def test_two_removals_may_cover_one_label() -> None:
    score = Score()
    score.add([(0, 4)], [(0, 2), (2, 4)])
    assert (score.covered, score.partial, score.wrong) == (1, 0, 0)


def test_nothing_labelled_and_nothing_removed_is_no_fault() -> None:
    assert (Score().recall, Score().precision) == (1.0, 1.0)


def test_texts_are_counted_by_what_became_of_them() -> None:
    texts = [
        LabelledText("Write to a@example.com or b@example.com", (Removal(9, 22, "email"),)),
        LabelledText("Rain", ()),
        LabelledText("c@example.com", None),
    ]
    outcome = measure(Scrubber(), texts)
    assert (outcome.texts, outcome.altered, outcome.refused) == (3, 2, 0)
    assert dict(outcome.spans) == {"email": 3}
    assert dict(outcome.texts_with) == {"email": 2}
    assert outcome.scores["email"] == Score(labelled=1, covered=1, removed=2, wrong=1)
    assert outcome.scores["phone"] == Score()
