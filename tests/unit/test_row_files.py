"""Files as rows with line numbers, whatever is wrong in them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everreach_assets.domain.errors import InvalidInput
from resources import row_files
from resources.row_files import Record, RowFile


def read(path: Path, content: bytes, **options: str) -> list[Record]:
    path.write_bytes(content)
    with RowFile(path, **options) as file:
        return list(file.records())


def lines_and_faults(records: list[Record]) -> list[tuple[int, str | None]]:
    return [(record.line, record.fault) for record in records]


@pytest.mark.parametrize("name", ["a.csv", "a.TSV", "a.jsonl", "a.ndjson"])
def test_an_empty_file_has_no_records(tmp_path: Path, name: str) -> None:
    assert read(tmp_path / name, b"") == []
    assert read(tmp_path / name, b"\n\r\n\n") == []


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.csv.gz"])
def test_another_format_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"files end in \.csv, \.tsv, \.jsonl or \.ndjson"):
        RowFile(tmp_path / name)


def test_a_file_that_is_missing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gone\.csv: No such file"):
        RowFile(tmp_path / "gone.csv")


def test_a_line_number_is_that_of_an_editor(tmp_path: Path) -> None:
    content = b'id,text\n\n1,"a\nb\rc\n"\n2,x\r\n3,"y\r\nz"\n4,w'
    records = read(tmp_path / "a.csv", content)
    assert [(record.line, record.row["text"]) for record in records] == [
        (3, "a\nb\rc\n"), (6, "x"), (7, "y\r\nz"), (9, "w")
    ]  # fmt: skip


def test_a_file_with_the_line_ends_of_an_old_mac_is_read(tmp_path: Path) -> None:
    records = read(tmp_path / "a.csv", b"id,text\r1,a\r2,b")
    assert [(record.line, record.row) for record in records] == [
        (2, {"id": "1", "text": "a"}), (3, {"id": "2", "text": "b"})
    ]  # fmt: skip


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", b"\xef\xbb\xbfid\n1\n")[0].row == {"id": "1"}
    assert read(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"id": 1}\n')[0].row == {"id": 1}


def test_rows_with_too_few_or_too_many_fields_are_refused_and_the_others_read(tmp_path: Path) -> None:
    records = read(tmp_path / "a.csv", b"id,text\n1\n2,a\n3,b,c\n")
    assert lines_and_faults(records) == [
        (2, "1 fields, the header has 2"),
        (3, None),
        (4, "3 fields, the header has 2"),
    ]
    assert records[2].row == {"fields": ["3", "b", "c"]}


def test_an_open_quote_costs_its_line_and_not_those_after_it(tmp_path: Path) -> None:
    records = read(tmp_path / "a.csv", b'id,text\n1,"open\n2,b\n3,"c"\n4,d\n')
    assert [record.line for record in records] == [2, 3, 4, 5]
    assert records[0].fault is not None
    assert records[0].fault.startswith("not CSV")
    assert [record.row.get("text") for record in records[1:]] == ["b", "c", "d"]


def test_an_open_quote_at_the_end_costs_its_line_only(tmp_path: Path) -> None:
    records = read(tmp_path / "a.csv", b'id,text\n1,a\n2,"open\n3,b\n')
    assert lines_and_faults(records) == [(2, None), (3, "not CSV: unexpected end of data"), (4, None)]


def test_bytes_of_another_encoding_cost_their_row_and_the_fault_says_what_to_set(tmp_path: Path) -> None:
    content = "id,text\n1,plain\n2,caf\u00e9\n".encode("cp1252")
    records = read(tmp_path / "a.csv", content)
    assert records[0].fault is None
    assert records[1].fault == "holds bytes that are not utf-8: set encoding in the mapping file (docs/intake.md)"
    assert read(tmp_path / "a.csv", content, encoding="cp1252")[1].row["text"] == "caf\u00e9"


def test_a_file_that_is_not_in_its_encoding_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="utf-16"):
        read(tmp_path / "a.csv", b"id,text\n1,a\n", encoding="utf-16")
    with pytest.raises(InvalidInput, match=r"the header holds bytes that are not utf-8: set encoding"):
        read(tmp_path / "a.csv", "id,text\n1,a\n".encode("utf-16"))


def test_a_nul_costs_its_row(tmp_path: Path) -> None:
    assert lines_and_faults(read(tmp_path / "a.csv", b"id,text\n1,a\x00b\n2,c\n")) == [
        (2, "holds a NUL character"), (3, None)
    ]  # fmt: skip


def test_a_column_named_twice_is_refused_and_a_nameless_one_gets_a_number(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="columns 1 and 2 have one name"):
        read(tmp_path / "a.csv", b"id,id\n1,2\n")
    assert read(tmp_path / "a.csv", b"id,,\n1,2,3\n")[0].row == {"id": "1", "column_2": "2", "column_3": "3"}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"[1]", "not a JSON object"),
        (b"7", "not a JSON object"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "not JSON: NaN is no number of JSON"),
        (b'{"a": -Infinity}', "not JSON: -Infinity"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": {"b": ["\\u0000"]}}', "holds a NUL"),
        (b'{"\\ud800": 1}', "holds a lone surrogate"),
        (b'{"a": "caf\xe9"}', "holds bytes that are not utf-8"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_line_that_is_no_json_object_costs_only_itself(tmp_path: Path, line: bytes, fault: str) -> None:
    records = read(tmp_path / "a.jsonl", line + b'\n{"a": "\\ud83d\\ude00"}\n')
    assert records[0].fault is not None
    assert records[0].fault.startswith(fault)
    assert records[1] == Record(2, {"a": "\U0001f600"})


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_files, "MAX_LINE_CHARS", 100)
    for name, start, row in (("a.csv", b"id\n", b"1"), ("a.jsonl", b'{"id": 0}\n', b'{"id": 1}')):
        records = read(tmp_path / name, start + b"x" * 1050 + b"\n" + row + b"\n")
        assert records[-2].fault is not None
        assert len(str(records[-2].row)) < 150
        assert (records[-1].line, records[-1].fault) == (3, None)


@given(st.binary(max_size=300), st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_no_bytes_break_the_reader_and_every_record_has_its_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    try:
        records = read(path, content)
    except InvalidInput as error:
        assert str(path) in str(error)  # noqa: PT017 - a header may be refused
    else:
        lines = [record.line for record in records]
        assert lines == sorted(set(lines))
