"""The extra `names`: Presidio with real spaCy pipelines, made and trained in the test, from the folder to the text.

Run by `make test-names`, in an environment that has spaCy; the project's own does not.
"""

from pathlib import Path

import pytest

from everreach_assets.domain.errors import InvalidInput, Refused
from everreach_assets.domain.pii_scores import measure
from everreach_assets.domain.scrubbing import SCRUBBER_VERSION, Scrubber
from resources.name_model import PresidioNames
from tests.labelled_sets import labelled_sets

pytest.importorskip("presidio_analyzer", reason="run by `make test-names`")
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


@pytest.mark.timeout(900)
@pytest.mark.shared_data
def test_a_model_that_was_trained_on_one_set_finds_strangers_of_the_others(shared_data: Path, tmp_path: Path) -> None:
    from tests.trained_names import train_names

    first, *others = [each for each in labelled_sets(shared_data) if each.name.endswith("strangers")]
    scrubber = Scrubber(name_model=PresidioNames(train_names(first.texts, tmp_path / "model", epochs=6)))
    assert measure(scrubber, first.texts[:100], ("name",)).scores["name"].recall > 0.9
    for each in others:
        without = measure(each.scrubber, each.texts[:400], ("name",)).scores["name"]
        trained = measure(scrubber, each.texts[:400], ("name",)).scores["name"]
        assert trained.recall > without.recall + 0.1, each.name
        assert trained.precision > 0.15, each.name
