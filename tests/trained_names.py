"""A small spaCy pipeline that marks names of people, trained on labelled texts within seconds; nothing is downloaded.

For the tests of the extra `names` and for its figures. It knows what its few hundred texts taught it and no more: the
figures are those of such a model, and no word about one that somebody trained on millions.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import spacy
from spacy.training import Example
from spacy.util import fix_random_seed, minibatch

from everreach_assets.domain.pii_scores import LabelledText

SEED = 20260630
EPOCHS = 12
BATCH_TEXTS = 32


def train_names(texts: Sequence[LabelledText], folder: Path, *, epochs: int = EPOCHS) -> Path:
    """Train on the labels of the kind `name`, write the pipeline to the folder, answer the folder.

    The same texts give the same pipeline on the same machine.
    """
    fix_random_seed(SEED)
    order = random.Random(SEED)  # noqa: S311 - an order, no secret
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    examples = [_example(nlp, each) for each in texts]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(epochs):
        order.shuffle(examples)
        for batch in minibatch(examples, BATCH_TEXTS):
            nlp.update(batch, sgd=optimizer, drop=0.2)
    nlp.to_disk(folder)
    return folder


def _example(nlp: spacy.Language, text: LabelledText) -> Example:
    """Labels that do not fall on the tokenizer's words are widened to them."""
    doc = nlp.make_doc(text.text)
    spans = [
        doc.char_span(each.start, each.end, "PERSON", alignment_mode="expand")
        for each in text.labels or ()
        if each.kind == "name"
    ]
    reference = doc.copy()
    reference.set_ents(spacy.util.filter_spans([each for each in spans if each is not None]))
    return Example(doc, reference)
