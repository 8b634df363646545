"""Files of labelled texts: every shape is read, what is wrong in one is named by its line, and no text is repeated."""

import json
from pathlib import Path

import pytest

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.pii_scores import LabelledText
from everreach_assets.domain.scrubbing import Removal
from resources.labelled_files import read_labelled

ANNA = LabelledText("Anna wrote", (Removal(0, 4, "name"),))


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_spans_are_read_from_jsonl(tmp_path: Path) -> None:
    row = {"text": "Anna wrote", "spans": [{"start": 0, "end": 4, "kind": "name"}, {"start": 5, "end": 6, "kind": "x"}]}
    assert list(read_labelled(written(tmp_path, "a.jsonl", json.dumps(row) + "\n"))) == [ANNA]


def test_entities_are_read_as_presidio_research_writes_them(tmp_path: Path) -> None:
    span = {"entity_type": "PERSON", "entity_value": "Anna", "start_position": 0, "end_position": 4}
    path = written(tmp_path, "a.json", json.dumps([{"full_text": "Anna wrote", "spans": [span], "template_id": 1}]))
    assert list(read_labelled(path)) == [ANNA]


def test_tokens_and_tags_are_joined_into_texts(tmp_path: Path) -> None:
    content = (
        "Anna\tB-PER\nwrote\tO\n\n@\tB-person\nanna\tI-person\nmet\tO\nBob\tB-PER\nLee\tI-PER\nin\tO\nRome\tB-LOC\n"
    )
    assert list(read_labelled(written(tmp_path, "a.conll", content))) == [
        ANNA,
        LabelledText("@anna met Bob Lee in Rome", (Removal(0, 5, "name"), Removal(10, 17, "name"))),
    ]


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "id,body\n1,Anna wrote\n2, \n"), ("a.jsonl", '{"body": "Anna wrote"}')]
)
def test_posts_have_no_labels(tmp_path: Path, name: str, content: str) -> None:
    assert list(read_labelled(written(tmp_path, name, content), text_column="body")) == [
        LabelledText("Anna wrote", None)
    ]


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("a.jsonl", '{"text": "Anna", "spans": [{"start": 0, "end": 9, "kind": "name"}]}', "line 1: every span"),
        ("a.jsonl", '{"text": "Anna", "spans": [{"start": true, "end": 2, "kind": "name"}]}', "line 1: every span"),
        ("a.jsonl", '{"text": 5, "spans": []}', "line 1: a text and a list"),
        ("a.jsonl", '{"text": "Anna", "spans": []}\nAnna', "line 2: not JSON"),
        ("a.json", "Anna", "not JSON"),
        ("a.json", '{"full_text": "Anna"}', "a list of objects"),
        ("a.json", '[{"full_text": "Anna"}]', "entry 1: a text and a list"),
        ("a.conll", "\nAnna", "line 2: a token"),
        ("a.csv", "id,body\n1,Anna\n", "line 2: no text in column 'text'; name it by --text"),
        ("a.csv", "id,text\n1,Anna,x\n", "line 2: 3 fields"),
    ],
)
def test_what_is_wrong_is_named_by_its_line_and_no_text_is_repeated(
    tmp_path: Path, name: str, content: str, cause: str
) -> None:
    with pytest.raises(InvalidInput, match=cause) as raised:
        list(read_labelled(written(tmp_path, name, content)))
    assert "Anna" not in str(raised.value).replace(str(tmp_path), "")


def test_bytes_of_another_encoding_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_bytes("Zoë\tO\n".encode("latin-1"))
    with pytest.raises(InvalidInput, match="--encoding"):
        list(read_labelled(path))
    assert [each.text for each in read_labelled(path, encoding="latin-1")] == ["Zoë"]
