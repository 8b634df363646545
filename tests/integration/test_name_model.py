"""The extra `names`: Presidio with a real spaCy pipeline, made in the test, from its folder to the embedded text.

It skips where the extra is not installed. How well a trained model finds names is not measured here.
"""

from pathlib import Path

import pytest

from everreach_assets.domain.errors import InvalidInput, Refused
from everreach_assets.domain.scrubbing import SCRUBBER_VERSION, Scrubber
from resources.name_model import PresidioNames

pytest.importorskip("presidio_analyzer", reason="the extra `names` is not installed: docs/privacy.md")
spacy = pytest.importorskip("spacy")

pytestmark = pytest.mark.filterwarnings("ignore")  # of spaCy and its libraries, on import


def pipeline(folder: Path, *patterns: str) -> Path:
    """A pipeline with the tokenizer of English and rules for the names."""
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": pattern} for pattern in patterns])
    ruler.add_patterns([{"label": "GPE", "pattern": "Rome"}])
    nlp.to_disk(folder)
    return folder


def test_strangers_names_go_and_places_stay(tmp_path: Path) -> None:
    scrubber = Scrubber(name_model=PresidioNames(pipeline(tmp_path / "model", "Anna Smith", "Zoë")))
    scrubbed = scrubber.scrub("Yesterday Anna Smith saw Zoë in Rome, write to anna@example.com")
    assert scrubbed.text == "Yesterday [NAME] saw [NAME] in Rome, write to [EMAIL]"
    assert scrubber.scrub(scrubbed.text).text == scrubbed.text


def test_what_is_decided_already_is_left_alone(tmp_path: Path) -> None:
    model = PresidioNames(pipeline(tmp_path / "model", "Anna"))
    assert Scrubber(name_model=model).scrub("[NAME] and [EMAIL] in Rome").text == "[NAME] and [EMAIL] in Rome"


def test_another_model_is_another_version(tmp_path: Path) -> None:
    versions = {Scrubber(name_model=PresidioNames(pipeline(tmp_path / name, name))).version for name in ("Anna", "Zoë")}
    assert len(versions) == 2
    assert all(version.startswith(f"{SCRUBBER_VERSION}+presidio-") for version in versions)


def test_a_text_above_the_models_limit_is_refused(tmp_path: Path) -> None:
    scrubber = Scrubber(name_model=PresidioNames(pipeline(tmp_path / "model", "Anna")))
    with pytest.raises(Refused, match="1000010 characters"):
        scrubber.scrub("rain " * 200_002)


def test_a_folder_without_a_pipeline_is_an_error_and_no_download(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no spaCy pipeline"):
        PresidioNames(tmp_path)
    (tmp_path / "meta.json").write_text("{}")
    with pytest.raises(InvalidInput, match="cannot load"):
        PresidioNames(tmp_path)
