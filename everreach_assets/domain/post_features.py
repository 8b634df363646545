"""What a model sees of a post before it is published: its text, type, account and time, as numbers.

An account's recent scores are not among them: a score is relative to the account's last posts already, and with them
no shared set was ordered better by more than 0.02 (docs/strategies.md#measured).
What belongs here: from posts to a matrix. What does not: what is learned from the matrix (`standing_model.py`), and
traits in words (`traits.py`).
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from everreach_assets.domain.labelled_outcomes import MOST_SPREADS, LabelledOutcome
from everreach_assets.domain.vectors import WIDTH

NUMBERS_SCALE = 0.3
"""Of the standardised numbers against texts of unit length. 0.1, 0.3 and 0.6 do alike on the shared sets."""
WORD_OR_QUESTION = r"\b\w\w+\b|\?"
MOST_TERMS = 30_000
MOST_CHARACTERS = 2_000
"""Of a text: what follows them costs most of the time and says least."""
TEXT_COMPONENTS = 20
MOST_CATEGORIES = 30
"""Of a column; rarer accounts and types are one: a list of trending videos has nearly as many accounts as posts."""


class Publishable(Protocol):
    """A published post or a draft."""

    @property
    def text(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def post_type(self) -> str: ...
    @property
    def published_at(self) -> dt.datetime | None: ...


def clipped_score(outcome: LabelledOutcome) -> float:
    """What is learned from a post: beyond three spreads, one post of a million views would be the whole model."""
    return max(-MOST_SPREADS, min(MOST_SPREADS, outcome.score))


_NUMBERS: tuple[Callable[[str, str], float], ...] = (
    lambda text, first: math.log1p(len(text)),
    lambda text, first: math.log1p(len(text.split())),
    lambda text, first: "\n" in text,
    lambda text, first: "?" in first,
    lambda text, first: "?" in text,
    lambda text, first: bool(re.match(r"\s*\d", first)),
    lambda text, first: bool(re.search(r"\d", text)),
    lambda text, first: bool(re.match(r"(?i)\s*how (to|we|i)\b", first)),
    lambda text, first: bool(re.search(r"https?://|www\.", text)),
    lambda text, first: min(5, len(re.findall(r"#\w", text))),
    lambda text, first: min(5, len(re.findall(r"@\w", text))),
    lambda text, first: min(3, text.count("!")),
    lambda text, first: sum(map(str.isupper, text)) / (len(text) + 1),
    lambda text, first: any(ord(each) > 0x2190 for each in text),  # arrows, symbols, emoji, scripts of the East
    lambda text, first: '"' in text or "\u201c" in text,
    lambda text, first: ":" in first,
    lambda text, first: not text,
    lambda text, first: text.endswith(("...", "\u2026")),
)


def _numbers(post: Publishable) -> list[float]:
    """Length, hooks and time: what has an order or is there or not."""
    first = post.text.strip().split("\n", 1)[0]
    at = post.published_at
    turn = 0.0 if at is None else 2 * math.pi * (at.hour + at.minute / 60) / 24
    slot = (0.0, 0.0, 0.0) if at is None else (math.sin(turn), math.cos(turn), float(at.weekday() >= 5))
    return [*(float(each(post.text, first)) for each in _NUMBERS), *slot]


def _categories(post: Publishable) -> list[str]:
    at = post.published_at
    slot = ("", "") if at is None else (f"{at.hour}", f"{at.weekday()}")
    return [post.account, post.post_type, *slot, f"{post.account}\n{post.post_type}"]


@dataclass(frozen=True)
class Matrices:
    """The same posts as each member of the model sees them; rows are posts.

    Attributes:
        wide: terms, categories and scaled numbers; sparse, shape (posts, tens of thousands).
        narrow: numbers, categories and the main components of the words; dense, shape (posts, about 150).
        vectors: hashed character n-grams as the local provider makes them; shape (posts, 1536), unit length or zero.
        accounts: shape (posts,).
    """

    wide: csr_matrix
    narrow: np.ndarray
    vectors: np.ndarray
    accounts: np.ndarray

    def __getitem__(self, rows: slice) -> "Matrices":
        return Matrices(self.wide[rows], self.narrow[rows], self.vectors[rows], self.accounts[rows])


class PostFeatures:
    """Turns posts into matrices.

    Args:
        outcomes: what terms, accounts and types are known from. Their scores are not looked at: what a matrix holds of
            a post cannot tell how it or another did.
    """

    def __init__(self, outcomes: Sequence[LabelledOutcome]) -> None:
        rare = 2 if len(outcomes) >= 100 else 1  # of twenty posts, a word in two of them is rare already
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=rare, sublinear_tf=True, token_pattern=WORD_OR_QUESTION)
        pieces = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), min_df=rare, sublinear_tf=True, max_features=MOST_TERMS
        )
        texts = _texts(outcomes)
        fitted = [(each, terms) for each in (words, pieces) if (terms := _fitted(each, texts)) is not None]
        self._vectorizers = [each for each, _ in fitted]
        self._svd = None
        if fitted and min(fitted[0][1].shape) > TEXT_COMPONENTS:
            self._svd = TruncatedSVD(TEXT_COMPONENTS, n_iter=2, random_state=0).fit(fitted[0][1])
        self._encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES)
        self._encoder.fit([_categories(each) for each in outcomes])
        self._scaler = StandardScaler().fit([_numbers(each) for each in outcomes])
        self._hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=WIDTH, dtype=np.float32)
        self.of_outcomes = self._matrices(outcomes, [terms for _, terms in fitted])

    def matrices(self, posts: Sequence[Publishable]) -> Matrices:
        """Of other posts, in their order."""
        return self._matrices(posts, [each.transform(_texts(posts)) for each in self._vectorizers])

    def _matrices(self, posts: Sequence[Publishable], terms: list[csr_matrix]) -> Matrices:
        categories = self._encoder.transform([_categories(each) for each in posts])
        numbers = np.array([_numbers(each) for each in posts])
        scaled = np.clip(self._scaler.transform(numbers), -4, 4) * NUMBERS_SCALE
        components = np.empty((len(posts), 0)) if self._svd is None else self._svd.transform(terms[0])
        return Matrices(
            hstack([*terms, categories, csr_matrix(scaled)]).tocsr(),
            np.hstack([numbers, components, categories.toarray()]),
            self._hashing.transform(_texts(posts)).toarray(),
            np.array([each.account for each in posts]),
        )


def _texts(posts: Sequence[Publishable]) -> list[str]:
    return [each.text[:MOST_CHARACTERS] for each in posts]


def _fitted(vectorizer: TfidfVectorizer, texts: Sequence[str]) -> csr_matrix | None:
    try:
        return vectorizer.fit_transform(texts)
    except ValueError:  # scikit-learn's word for "no term is left": the texts are empty, or all different
        return None
