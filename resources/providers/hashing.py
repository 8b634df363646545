"""Hashed character n-grams, in this process."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from everreach_assets.domain.embedding_answers import Answer
from everreach_assets.domain.embedding_inputs import EmbeddingInput, Limits
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH
from resources.providers.protocol import LOCAL, Purpose, SettingNames


class LocalHashingProvider:
    """Hashed character n-grams: no download, no network, about 10,000 short texts a second.

    Near in this space means alike in spelling, not in meaning: on the STS benchmark its Spearman correlation with
    people's judgement is 0.66, where words give 0.56.
    """

    space = Space(LOCAL, "hashing-char-3-5", WIDTH, "1")
    limits = Limits(inputs=1_000, input_tokens=100_000_000, request_tokens=100_000_000)  # it knows no limit of length
    is_unit = True
    tells_queries_apart = False
    settings = SettingNames("EMBEDDING_PROVIDER", "EMBEDDING_PROVIDER", "EMBEDDING_PROVIDER", "EMBEDDING_PROVIDER")

    def __init__(self) -> None:
        self._vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=WIDTH, norm="l2")

    def count_tokens(self, text: str) -> int:
        return len(text)

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        rows = self._vectorizer.transform([each.text for each in inputs]).toarray().astype(np.float32)
        return Answer(range(len(inputs)), list(rows), self.space.model)
