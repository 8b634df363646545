"""How well a scrubber does on texts whose personal data somebody labelled, and what it takes out of plain ones.

What belongs here: counting spans, by kind. What does not: reading files (resources/labelled_files.py). No score holds
any text.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from everreach_assets.domain.errors import Refused
from everreach_assets.domain.scrubbing import PLACEHOLDERS, Removal, Scrubber

KINDS = tuple(PLACEHOLDERS)


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text and its personal data.

    Attributes:
        text: as it was written.
        labels: the spans that must go; None where nobody labelled the text, which is not the same as none.
    """

    text: str
    labels: tuple[Removal, ...] | None


@dataclass
class Score:
    """Spans of one kind, over many texts.

    Attributes:
        labelled: spans that should go.
        covered: of these, the ones that went whole.
        partial: of these, the ones of which a part stayed.
        removed: spans that went.
        wrong: of these, the ones that touch no labelled span of the kind.
    """

    labelled: int = 0
    covered: int = 0
    partial: int = 0
    removed: int = 0
    wrong: int = 0

    def add(self, labels: Sequence[tuple[int, int]], removals: Sequence[tuple[int, int]]) -> None:
        """Count the spans of one text."""
        self.labelled += len(labels)
        self.removed += len(removals)
        for start, end in labels:
            inside = sum(max(0, min(end, right) - max(start, left)) for left, right in removals)
            self.covered += inside == end - start
            self.partial += 0 < inside < end - start
        self.wrong += sum(not any(left < end and start < right for start, end in labels) for left, right in removals)

    @property
    def recall(self) -> float:
        """Share of the labelled spans that went whole; 1 where there is none."""
        return self.covered / self.labelled if self.labelled else 1.0

    @property
    def precision(self) -> float:
        """Share of what went that touches a label; 1 where nothing went."""
        return (self.removed - self.wrong) / self.removed if self.removed else 1.0


@dataclass
class Outcome:
    """What a scrubber did to a set of texts.

    Attributes:
        texts: how many there were.
        altered: how many it changed.
        refused: how many it refused.
        spans: what it took out, by kind.
        texts_with: texts that it took something of the kind out of.
        scores: by kind, over the labelled texts; empty where none is labelled.
    """

    texts: int = 0
    altered: int = 0
    refused: int = 0
    spans: Counter[str] = field(default_factory=Counter)
    texts_with: Counter[str] = field(default_factory=Counter)
    scores: dict[str, Score] = field(default_factory=dict)


def measure(scrubber: Scrubber, texts: Iterable[LabelledText], kinds: Sequence[str] = KINDS) -> Outcome:
    """Scrub every text and count; `kinds` are those that the labels of the set speak of."""
    outcome = Outcome()
    for each in texts:
        outcome.texts += 1
        try:
            removals = scrubber.removals(each.text)
        except Refused:
            outcome.refused += 1
            continue
        outcome.altered += bool(removals)
        found = spans_by_kind(removals)
        for kind, spans in found.items():
            outcome.spans[kind] += len(spans)
            outcome.texts_with[kind] += 1
        if each.labels is not None:
            labelled = spans_by_kind(each.labels)
            for kind in kinds:
                outcome.scores.setdefault(kind, Score()).add(labelled.get(kind, []), found.get(kind, []))
    return outcome


def spans_by_kind(removals: Iterable[Removal]) -> Mapping[str, list[tuple[int, int]]]:
    """The places alone, by kind."""
    found: dict[str, list[tuple[int, int]]] = {}
    for start, end, kind in removals:
        found.setdefault(kind, []).append((start, end))
    return found
