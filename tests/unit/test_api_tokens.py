"""The file of tokens: what is read, and what is refused."""

from pathlib import Path

import pytest
from starlette.requests import Request

from everreach_assets.domain.errors import Refused, Unavailable
from everreach_assets.service.auth import carries_one_of
from resources.api_tokens import FILE_BYTES, tokens_in_file


def written(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_each_line_is_a_token_but_for_comments(tmp_path: Path) -> None:
    assert tokens_in_file(written(tmp_path, b"# of the crew\r\n\n  one \r\ntwo\n")) == ["one", "two"]
    assert tokens_in_file(written(tmp_path, b"")) == []


@pytest.mark.parametrize("content", [b"one two\n", b"t\xc3\xb6ken\n", b"\xff\n", b"a" * (FILE_BYTES + 1)])
def test_what_is_no_token_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Refused, match="is no file of tokens") as refused:
        tokens_in_file(written(tmp_path, content))
    assert "two" not in str(refused.value)


@pytest.mark.parametrize(
    ("mode", "is_taken"),
    [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o604, False), (0o660, False), (0o601, False)],
)
def test_others_may_not_read_the_file_and_its_group_may_not_write(tmp_path: Path, mode: int, is_taken: bool) -> None:
    path = written(tmp_path, b"one\n", mode)
    if is_taken:
        assert tokens_in_file(path) == ["one"]
    else:
        with pytest.raises(Refused, match="chmod 600"):
            tokens_in_file(path)


def test_a_file_that_is_away_and_one_that_is_none_are_said(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises((Unavailable, Refused), match="EVERREACH_API_TOKENS_FILE"):
            tokens_in_file(path)


def test_every_token_is_compared_whichever_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the time of an answer does not tell which token matched, or how much of one."""
    import hmac

    compared: list[tuple[int, int]] = []
    compare = hmac.compare_digest

    def counted(given: bytes, token: bytes) -> bool:
        compared.append((len(given), len(token)))
        return compare(given, token)

    monkeypatch.setattr("everreach_assets.service.auth.hmac.compare_digest", counted)

    def passes(value: bytes) -> bool:
        request = Request({"type": "http", "headers": [(b"authorization", value)]})
        return carries_one_of(request, ["first", "second-and-longer", "third"])

    given = [b"Bearer first", b"Bearer third", b"Bearer wrong", b"Bearer " + b"x" * 9_000, b"", b"Bearer \xff\xfe"]
    assert [passes(each) for each in given] == [True, True, False, False, False, False]
    assert compared == [(32, 32)] * (3 * len(given))
