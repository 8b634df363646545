"""A sentence-transformers model in this process (extra `[semantic]`), from a folder on this machine."""

import hashlib
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from everreach_assets.domain.embedding_answers import Answer
from everreach_assets.domain.embedding_inputs import EmbeddingInput, Limits
from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.spaces import Space
from everreach_assets.domain.vectors import WIDTH
from resources.providers.protocol import LOCAL, Purpose, SettingNames

MAX_INPUTS = 256


class SemanticProvider:
    """The vectors of a sentence-transformers model. Nothing is downloaded, and no code of the model's folder is run.

    Args:
        folder: of the model, as `SentenceTransformer.save` writes it.

    Raises:
        InvalidInput: the extra is not installed, the folder is no model, or its vectors are wider than 1536.
    """

    is_unit = True
    tells_queries_apart = False
    settings = SettingNames(*["EMBEDDING_LOCAL_MODEL"] * 4)

    def __init__(self, folder: Path) -> None:
        if not (folder / "modules.json").is_file():
            raise InvalidInput(
                f"EMBEDDING_LOCAL_MODEL: {folder} holds no sentence-transformers model (no modules.json)"
            )
        try:
            library = importlib.import_module("sentence_transformers")
        except ModuleNotFoundError as error:
            raise InvalidInput(
                "the semantic provider needs the extra: pip install 'everreach-assets[semantic]'"
            ) from error
        self._model: Any = library.SentenceTransformer(str(folder), local_files_only=True, trust_remote_code=False)
        width = self._model.get_embedding_dimension()
        if not width or width > WIDTH:
            raise InvalidInput(f"EMBEDDING_LOCAL_MODEL: its vectors have {width} components, {WIDTH} are the most")
        self.space = Space(LOCAL, folder.name, width, fingerprint(folder))
        longest = self._model.max_seq_length or 512
        self.limits = Limits(MAX_INPUTS, longest, MAX_INPUTS * longest)

    def count_tokens(self, text: str) -> int:
        """With the marks that the model's tokenizer puts around a text."""
        return len(self._model.tokenizer(text, truncation=False, verbose=False)["input_ids"])

    def ask(self, inputs: Sequence[EmbeddingInput], purpose: Purpose, timeout_seconds: float) -> Answer:
        texts = [each.text for each in inputs]
        rows = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True)
        return Answer(range(len(texts)), list(np.asarray(rows, dtype=np.float32)))


def fingerprint(folder: Path) -> str:
    """Twelve hexadecimal digits of everything in the folder: another model under the same name is another space."""
    digest = hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and each.suffix != ".md"):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]
