"""Names of strangers, by Presidio and a spaCy model on this machine: the extra `names`.

What belongs here: the adapter. What does not: the model, which the operator brings (docs/privacy.md). Nothing is
downloaded: a model that is not there is an error.
"""

import hashlib
from importlib.metadata import version
from pathlib import Path

from everreach_assets.domain.errors import InvalidInput, Refused
from everreach_assets.domain.text_view import MASK, Span
from resources.settings import Settings

LANGUAGE = "en"
"""What Presidio files the model under. It is not the model's language, which Presidio never asks about."""


class PresidioNames:
    """Finds people's names by a spaCy pipeline that marks them PERSON or PER.

    Args:
        folder: of the pipeline, as spaCy's `to_disk` writes it.

    Raises:
        InvalidInput: the folder holds no pipeline, or the extra is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import presidio_analyzer as presidio  # noqa: PLC0415 - an extra, and spaCy takes seconds to load
            from presidio_analyzer import nlp_engine, predefined_recognizers  # noqa: PLC0415 - as above
        except ImportError as error:
            raise InvalidInput(
                "PII_NAME_MODEL is set and presidio-analyzer is not installed: pip install 'everreach-assets[names]'"
            ) from error
        if not (folder / "meta.json").is_file():  # Presidio would download a model of that name
            raise InvalidInput(f"PII_NAME_MODEL: {folder} holds no spaCy pipeline (meta.json and config.cfg)")
        engine = nlp_engine.SpacyNlpEngine(models=[{"lang_code": LANGUAGE, "model_name": str(folder)}])
        try:
            engine.load()
        except (ValueError, OSError) as error:
            raise InvalidInput(f"PII_NAME_MODEL: spaCy cannot load {folder} ({type(error).__name__})") from error
        # Only this recognizer: the others find what ours find, and one of them asks the network for a list of domains.
        registry = presidio.RecognizerRegistry([predefined_recognizers.SpacyRecognizer(supported_entities=["PERSON"])])
        self._analyzer = presidio.AnalyzerEngine(registry, engine, supported_languages=[LANGUAGE])
        self.version = f"presidio-{version('presidio-analyzer')}-spacy-{version('spacy')}-{_digest(folder)}"

    def find(self, view: str) -> list[Span]:
        """Spans of names, in order and without overlap; one over a place that is decided already is cut there.

        Raises:
            Refused: the model fails on the text, for instance above its length of a million characters.
        """
        try:
            results = self._analyzer.analyze(view, LANGUAGE, entities=["PERSON"])
        except Exception as error:  # whatever a model does: a text that it did not read is not embedded
            raise Refused(
                f"the name model failed on a text of {len(view)} characters ({type(error).__name__})"
            ) from None
        found: list[Span] = []
        for each in sorted(results, key=lambda result: (result.start, -result.end)):
            place = max(each.start, found[-1][1]) if found else each.start
            for part in view[place : each.end].split(MASK):
                name = part.strip()
                if any(map(str.isalpha, name)):
                    start = place + part.index(name)
                    found.append((start, start + len(name)))
                place += len(part) + 1
        return found


def open_name_model(settings: Settings) -> PresidioNames | None:
    """The model that the settings name; None where they name none.

    Raises:
        InvalidInput: it cannot be opened. Without it texts would go out with names that somebody meant to be removed.
    """
    return PresidioNames(settings.pii_name_model.expanduser()) if settings.pii_name_model else None


def _digest(folder: Path) -> str:
    """Of the pipeline's files and their names: another model is another version of the scrubber."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()[:12]
