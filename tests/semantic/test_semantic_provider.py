"""The extra `[semantic]`: a real sentence-transformers model, tiny and made here, so that nothing is downloaded.

Run by `make test-semantic`, in an environment that has PyTorch; the project's own does not.
"""

from pathlib import Path

import numpy as np
import pytest

sentence_transformers = pytest.importorskip("sentence_transformers", reason="run by `make test-semantic`")
import torch  # noqa: E402
from sentence_transformers import models  # noqa: E402
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers  # noqa: E402
from tokenizers.models import WordPiece  # noqa: E402
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast  # noqa: E402

from everreach_assets.domain.collections import CONTENT, PROSPECTS  # noqa: E402
from everreach_assets.domain.errors import InvalidInput  # noqa: E402
from resources.embedder import Embedder  # noqa: E402
from resources.provider_choice import open_providers  # noqa: E402
from resources.providers import SemanticProvider  # noqa: E402
from resources.settings import Settings  # noqa: E402

WIDTH = 32
WORDS = "salt the water let meat rest taste it write a subject line that gets opened"


def make_model(folder: Path, seed: int = 1) -> Path:
    """A BERT of one layer and 32 components that knows a dozen words, saved as its library saves one."""
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.train_from_iterator([WORDS] * 10, trainer)
    parts = folder / "parts"
    marks = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(parts)
    torch.manual_seed(seed)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=64, **sizes)).save_pretrained(
        parts
    )
    words = models.Transformer(str(parts), max_seq_length=16)
    pooling = models.Pooling(WIDTH, pooling_mode="mean")
    saved = folder / "tiny"
    sentence_transformers.SentenceTransformer(modules=[words, pooling]).save(str(saved))
    return saved


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def test_its_vectors_are_those_of_the_model_and_padded_to_the_stored_width(model: Path) -> None:
    provider = SemanticProvider(model)
    texts = ["salt the water", "let the meat rest"]
    vectors = Embedder(provider).embed_many(CONTENT.name, texts).vectors
    expected = sentence_transformers.SentenceTransformer(str(model)).encode(texts, normalize_embeddings=True)
    for vector, wanted in zip(vectors, expected, strict=True):
        assert vector is not None
        np.testing.assert_allclose(vector[:WIDTH], wanted, atol=1e-5)
        assert not vector[WIDTH:].any()


def test_a_text_over_the_models_limit_is_split_and_pooled(model: Path) -> None:
    provider = SemanticProvider(model)
    long = "salt the water let the meat rest " * 6
    assert provider.count_tokens(long) > provider.limits.input_tokens == 16
    (vector,) = Embedder(provider).embed_many(CONTENT.name, [long]).vectors
    (cut_off,) = sentence_transformers.SentenceTransformer(str(model)).encode([long], normalize_embeddings=True)
    assert vector is not None
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)
    assert np.abs(vector[:WIDTH] - cut_off).max() > 1e-4  # the model alone would see the first sixteen tokens


def test_the_settings_choose_it_for_what_may_not_leave_the_machine(model: Path) -> None:
    settings = Settings(_env_file=None, embedding_local_provider="semantic", embedding_local_model=model)
    embedder = Embedder(local=open_providers(settings).local)
    space = embedder.space_of(PROSPECTS.name)
    assert (space.provider, space.model, space.width) == ("local", "tiny", WIDTH)
    assert embedder.embed_many(PROSPECTS.name, ["salt the water"]).vectors[0] is not None


def test_another_model_under_the_same_name_is_another_space(model: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path, seed=2)
    assert other.name == model.name
    assert SemanticProvider(other).space != SemanticProvider(model).space
    assert SemanticProvider(model).space == SemanticProvider(model).space


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="EMBEDDING_LOCAL_MODEL"):
        SemanticProvider(tmp_path)
