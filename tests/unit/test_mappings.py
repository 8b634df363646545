"""Mapping files, and what becomes of a row under one."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.errors import InvalidInput
from everreach_assets.domain.mapping_files import FIELDS, FileMapping, load_mapping
from everreach_assets.domain.mappings import RowMapper, parse_time
from everreach_assets.domain.metrics import ALIASES, METRICS

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "mappings").glob("*.yaml"))


def mapper(*, platform: str | None = None, **content: object) -> RowMapper:
    return RowMapper("posts", FileMapping.model_validate(content), platform=platform)


def reason_of(row: dict[str, object], by: RowMapper) -> str:
    with pytest.raises(InvalidInput) as caught:
        by.map(row)
    return str(caught.value)


Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_mapping(text: str) -> Path:
        path = tmp_path / "mapping.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_mapping


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_in_the_docs_is_a_mapping(path: Path) -> None:
    mapping = load_mapping(path)
    RowMapper("prospects" if "prospects" in path.stem else "posts", mapping)
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_the_reference_in_the_docs_is_a_mapping_and_lists_every_metric() -> None:
    page = (EXAMPLES[0].parents[1] / "intake.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    FileMapping.model_validate(yaml.safe_load(example[1]))
    for name in (
        *FileMapping.model_fields,
        *METRICS,
        *ALIASES,
        *(field for fields in FIELDS.values() for field in fields),
    ):
        assert re.search(rf"\b{name}\b", page), name


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("colums: {text: a}", ["colums", "no such key", "columns", "encoding"]),
        ("columns: {text: {colum: a}}", ["columns.text.colum", "no such key", "column", "time_format"]),
        ("metrics: {likes: {column: a, when: b}}", ["metrics.likes.when", "no such key", "unless"]),
        ("metrics: {lykes: a}", ["metrics", "'lykes'", "likes"]),
        ("encoding: utf-99", ["encoding", "utf-99", "mac_roman"]),
        ("encoding: base64", ["encoding", "base64"]),
        ("delimiter: ';;'", ["delimiter", "one character"]),
        ("time_zone: Mars/Base", ["time_zone", "Mars/Base", "Europe/Berlin"]),
        ("time_zone: ../etc/passwd", ["time_zone"]),
        ("columns: {post_id: {column: a, pattern: 'x'}}", ["columns.post_id.pattern", "exactly one (group)"]),
        ("columns: {post_id: {column: a, pattern: '(x'}}", ["columns.post_id.pattern"]),
        ("columns: {url: {column: a, template: 'x'}}", ["columns.url.template", "exactly one {}"]),
        ("columns: {url: {column: a, template: '{}{}'}}", ["columns.url.template", "exactly one {}"]),
        ("columns: {post_id: []}", ["columns.post_id", "names no column"]),
        ("columns: {post_id: {column: a, columns: [b]}}", ["columns.post_id", "both column and columns"]),
        ("columns: {platform: a}\nconstants: {platform: x}", ["'platform'", "both constants and columns"]),
        ("- a", ["valid dictionary"]),
        ("a: [", ["not YAML"]),
    ],
)
def test_a_wrong_mapping_is_refused_with_file_key_and_what_is_allowed(
    write: Write, text: str, parts: list[str]
) -> None:
    path = write(text)
    with pytest.raises(InvalidInput) as caught:
        load_mapping(path)
    assert all(part in str(caught.value) for part in [str(path), *parts])


def test_a_mapping_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml: No such file"):
        load_mapping(tmp_path / "nowhere.yaml")


def test_a_time_that_yaml_reads_on_its_own_is_a_constant_like_any_other(write: Write) -> None:
    path = write("constants: {platform: x, observed_at: 2016-06-25T00:00:00Z}\ncolumns: {post_id: id}")
    row = RowMapper("posts", load_mapping(path)).map({"id": "1"})
    assert row.fields["observed_at"] == datetime(2016, 6, 25, tzinfo=UTC)


def test_a_time_has_no_template() -> None:
    with pytest.raises(InvalidInput, match=r"columns\.published_at\.template: published_at is a time"):
        mapper(columns={"published_at": {"column": "day", "template": "{}Z"}})


def test_a_field_that_the_kind_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(InvalidInput, match=r"posts have no field 'titel'; they have platform, post_id"):
        mapper(columns={"titel": "a"})
    with pytest.raises(InvalidInput, match="metrics: lessons have none"):
        RowMapper("lessons", FileMapping.model_validate({"metrics": {"likes": "a"}}))


def test_fields_come_from_columns_joined_extracted_and_cleaned() -> None:
    by = mapper(
        constants={"platform": "x"},
        html_entities=True,
        replacements={"‰ÛÓ": "—"},
        columns={
            "post_id": {"column": "url", "pattern": "/status/([0-9]+)$"},
            "text": ["title", "body", "more"],
            "url": "url",
            "published_at": {"columns": ["day", "hour"], "join": " ", "time_format": "%d.%m.%Y %H"},
        },
        time_zone="Europe/Berlin",
        metrics={"shares": "rt"},
    )
    row = by.map(
        {"url": "https://x.com/a/status/77", "title": "A &amp; B", "body": "", "more": "c ‰ÛÓ d", "day": "1.7.2026",
         "hour": "12", "rt": "5", "lang": "en", "empty": ""}
    )  # fmt: skip
    assert row.fields == {
        "platform": "x",
        "post_id": "77",
        "text": "A & B\n\nc — d",
        "url": "https://x.com/a/status/77",
        "published_at": datetime(2026, 7, 1, 10, tzinfo=UTC),
    }
    assert row.metrics == {"shares": 5}
    assert row.attributes == {"lang": "en"}


def test_a_template_is_written_around_what_there_is() -> None:
    by = mapper(
        constants={"platform": "x"},
        html_entities=True,
        columns={
            "post_id": {"column": "link", "pattern": "id=([0-9]+)", "template": "post-{}"},
            "url": {"column": "id", "template": "https://example.com/?id={}&section=2"},
        },
    )
    assert by.map({"link": "?id=7", "id": "a{}b"}).fields["url"] == "https://example.com/?id=a{}b&section=2"
    assert by.map({"link": "?id=7", "id": " 8 "}).fields["url"] == "https://example.com/?id=8&section=2"
    row = by.map({"link": "?id=7", "id": "  "})
    assert (row.fields["post_id"], row.fields["url"]) == ("post-7", "")
    with pytest.raises(InvalidInput, match="post_id is empty"):
        by.map({"link": "", "id": "8"})


def test_without_a_mapping_columns_are_named_after_fields_and_metrics() -> None:
    row = RowMapper("posts", None).map({"platform": "x", "post_id": 7, "text": None, "favorites": 3, "mood": ["a"]})
    assert row.fields["post_id"] == "7"
    assert row.fields["text"] == ""
    assert row.metrics == {"likes": 3}
    assert row.attributes == {"mood": ["a"]}


def test_a_count_that_the_file_calls_disabled_is_unknown() -> None:
    by = mapper(
        constants={"platform": "youtube"},
        columns={"post_id": "id"},
        metrics={"comments": {"column": "n", "unless": "off"}},
    )
    assert by.map({"id": "1", "n": "0", "off": "True"}).metrics == {}
    assert by.map({"id": "1", "n": "0", "off": "False"}).metrics == {"comments": 0}


def test_a_header_that_lacks_a_mapped_column_is_refused_with_key_and_columns() -> None:
    by = mapper(constants={"platform": "x"}, columns={"post_id": "id", "text": "body"}, metrics={"likes": "hearts"})
    with pytest.raises(InvalidInput) as caught:
        by.check_columns(["id", "title"])
    assert str(caught.value) == (
        "mapping: columns.text names column 'body', metrics.likes names column 'hearts', which the file lacks; "
        "the file has 'id', 'title'"
    )


def test_a_header_that_states_no_id_or_platform_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing states post_id"):
        RowMapper("posts", None, platform="x").check_columns(["id"])
    with pytest.raises(InvalidInput, match=r"nothing states platform: .* --platform"):
        RowMapper("posts", None).check_columns(["post_id"])
    RowMapper("posts", None, platform="x").check_columns(["post_id"])


def test_a_platform_that_is_asked_for_fills_but_never_overrides() -> None:
    by = RowMapper("posts", None, platform="facebook")
    assert by.map({"post_id": "1"}).fields["platform"] == "facebook"
    assert by.map({"post_id": "1", "platform": "facebook"}).fields["platform"] == "facebook"
    assert "'reddit'" in reason_of({"post_id": "1", "platform": "reddit"}, by)
    with pytest.raises(InvalidInput, match="'facebook' was asked for, the mapping's constants say 'x'"):
        mapper(platform="facebook", constants={"platform": "x"}, columns={"post_id": "id"})
    with pytest.raises(InvalidInput, match="prospects have no platform"):
        RowMapper("prospects", None, platform="x")


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"post_id": ""}, "post_id is empty"),
        ({}, "post_id is empty"),
        ({"post_id": "  "}, "post_id is empty"),
        ({"post_id": "é" * 48}, "96 bytes, the limit is 95"),
        ({"post_id": "a\nb"}, "control or separator"),
        ({"post_id": "1", "platform": "Face Book"}, "platform is no such name"),
        ({"post_id": "1", "platform": ""}, "platform is empty"),
        ({"post_id": ["1"]}, "post_id: a text is expected, the row has list"),
        ({"post_id": True}, "post_id: a text is expected, the row has bool"),
        ({"post_id": "1", "published_at": "yesterday"}, "published_at: not a time in ISO 8601 or Unix seconds"),
        ({"post_id": "1", "published_at": "2026-01-01 10:00"}, "published_at: the time has no zone: set time_zone"),
        ({"post_id": "1", "likes": "many"}, "metric 'likes' is not a plain number"),
    ],
)
def test_a_row_that_cannot_be_taken_says_which_part_is_wrong(row: dict[str, object], part: str) -> None:
    assert part in reason_of({"platform": "x"} | row, RowMapper("posts", None))


@pytest.mark.parametrize("value", ["Ann Lee", "ann@mail.example.com", "+1 415 867 5309", "ann\nlee" * 30])
@pytest.mark.parametrize("field", ["platform", "published_at", "likes"])
def test_a_reason_repeats_nothing_of_a_row_whose_columns_have_shifted(field: str, value: str) -> None:
    reason = reason_of({"platform": "x", "post_id": "1", field: value}, RowMapper("posts", None))
    assert "ann" not in reason.lower()
    assert "867" not in reason


def test_a_reason_repeats_nothing_of_what_stands_for_an_id() -> None:
    assert "ann" not in reason_of({"platform": "x", "post_id": "ann\nlee"}, RowMapper("posts", None))
    assert "ann" not in reason_of({"prospect_id": "ann lee" * 30}, RowMapper("prospects", None))


@pytest.mark.parametrize("field", ["account", "post_type", "niche"])
@pytest.mark.parametrize("value", ["ann@mail.example.com", "call +1 415 867 5309", "ann [at] mail [dot] com"])
def test_a_tag_with_an_address_or_a_number_is_refused(field: str, value: str) -> None:
    by = RowMapper("posts", None)
    assert f"{field} holds an e-mail address or a telephone number" in reason_of(
        {"platform": "x", "post_id": "1", field: value}, by
    )


@pytest.mark.parametrize("value", ["100064860875397", "4158675309", "@ann", "Dear Diary", "Hello Fresh", "24/7 news"])
def test_an_account_may_be_a_number_a_handle_or_a_greeting(value: str) -> None:
    assert RowMapper("posts", None).map({"platform": "x", "post_id": "1", "account": value}).fields["account"] == value


@pytest.mark.parametrize(
    "line", [["Ann Lee", "ann@mail.com"], ["Ann", "(415) 867-5309"], ["1", "2026-01-01"], ["a\nb"]]
)
def test_a_file_without_a_header_is_refused_and_its_first_row_is_not_repeated(line: list[str]) -> None:
    with pytest.raises(InvalidInput, match="is the header missing") as caught:
        RowMapper("posts", None, platform="x").check_columns(line)
    assert not any(cell in str(caught.value) for cell in line if len(cell) > 2)


def test_a_post_id_of_95_bytes_is_taken() -> None:
    assert RowMapper("posts", None, platform="x").map({"post_id": "a" * 95}).fields["post_id"] == "a" * 95


def test_an_outcome_without_a_count_and_a_lesson_without_a_text_are_refused() -> None:
    assert "no metric" in reason_of({"platform": "x", "post_id": "1", "likes": "-1"}, RowMapper("outcomes", None))
    assert "text is empty" in reason_of({"lesson_id": "1", "text": " "}, RowMapper("lessons", None))
    assert RowMapper("lessons", None).map({"lesson_id": "1", "text": "a"}).fields["platform"] is None


@pytest.mark.parametrize(
    ("text", "time_format", "moment"),
    [
        ("2026-02-01T10:00:00Z", None, datetime(2026, 2, 1, 10, tzinfo=UTC)),
        ("2026-02-01 10:00:00+02:00", None, datetime(2026, 2, 1, 8, tzinfo=UTC)),
        ("2026-07-01 10:00:00.25", None, datetime(2026, 7, 1, 8, 0, 0, 250000, tzinfo=UTC)),
        ("2026-07-01", None, datetime(2026, 6, 30, 22, tzinfo=UTC)),
        ("1362366304", None, datetime(2013, 3, 4, 3, 5, 4, tzinfo=UTC)),
        ("1362366304.0", None, datetime(2013, 3, 4, 3, 5, 4, tzinfo=UTC)),
        ("10/16/17 22:59", "%m/%d/%y %H:%M", datetime(2017, 10, 16, 20, 59, tzinfo=UTC)),
        ("18.01.11", "%y.%d.%m", datetime(2018, 10, 31, 23, tzinfo=UTC)),
    ],
)
def test_times_are_understood_in_their_zone(text: str, time_format: str | None, moment: datetime) -> None:
    assert parse_time(text, zone=ZoneInfo("Europe/Berlin"), time_format=time_format) == moment


@pytest.mark.parametrize(
    "text", ["20130103", "13", "1700000000000", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00+01:00"]
)
def test_what_only_looks_like_a_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a time"):
        parse_time(text, zone=ZoneInfo("UTC"))


@given(st.text(), st.sampled_from([None, "%d.%m.%Y"]))
def test_no_text_breaks_the_reading_of_times(text: str, time_format: str | None) -> None:
    try:
        assert parse_time(text, zone=ZoneInfo("America/New_York"), time_format=time_format).tzinfo is UTC
    except InvalidInput as error:
        assert "not a time" in str(error)  # noqa: PT017 - either outcome is right


BY_NAME = {"platform": "x", "post_id": "7", "text": "a text", "likes": "3"}


@pytest.mark.parametrize("content", [{}, {"encoding": "latin-1"}, {"time_zone": "UTC"}, {"constants": {"niche": "a"}}])
def test_what_a_mapping_leaves_out_goes_by_name(content: dict[str, object]) -> None:
    row = RowMapper("posts", FileMapping.model_validate(content)).map(BY_NAME)
    assert (row.fields["post_id"], row.fields["text"], row.metrics) == ("7", "a text", {"likes": 3})


def test_metrics_go_by_name_beside_columns_that_do_not_and_a_column_is_one_thing_only() -> None:
    columns = {"post_id": "id", "platform": "where"}
    row = mapper(columns=columns).map({"id": "7", "where": "x", "likes": "3"})
    assert row.metrics == {"likes": 3}
    row = mapper(columns=columns | {"niche": "likes"}).map({"id": "7", "where": "x", "likes": "3"})
    assert (row.fields["niche"], row.metrics) == ("3", {})
