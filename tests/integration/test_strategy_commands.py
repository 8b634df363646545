"""`everreach strategy` as a person types it, on strategies that are there already."""

import datetime as dt
import json

import pytest
from click.testing import Result

from resources.database import Database
from tests.claims import claim, store
from tests.integration.test_commands import everreach


@pytest.fixture
def ids(database: Database) -> list[int]:
    """Of two strategies that were in force on x, and one that was held."""
    return [
        store(database, claim("a")).strategy_id,
        store(database, claim("b", ratio=0.5, trait="#launch")).strategy_id,
        store(database, claim("c", trait="#held"), is_accepted=False).strategy_id,
    ]


def refusal(result: Result) -> str:
    """The message of a command that refused its input, on one line."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.replace("Error: ", "").split())


def test_the_strategy_in_force_is_shown_and_that_of_a_time_and_the_one_held(
    database: Database, database_url: str, ids: list[int]
) -> None:
    with database.connection() as connection:
        ((since,),) = connection.execute(
            "SELECT since FROM strategy_terms WHERE strategy_id = %s", (ids[1],)
        ).fetchall()
    shown = everreach(database_url, "strategy", "show", "x").output
    assert shown.startswith(f"Strategy {ids[1]} of x, accepted, knows what was labelled until")
    assert "#launch" in shown
    before = (since - dt.timedelta(microseconds=1)).isoformat()
    assert "opens with a number" in everreach(database_url, "strategy", "show", "x", "--as-of", before).output
    assert "#launch" in everreach(database_url, "strategy", "show", "x", "--as-of", since.isoformat()).output
    assert "#held" in everreach(database_url, "strategy", "show", "x", "--held").output
    whole = json.loads(everreach(database_url, "strategy", "show", "x", "--json").output)
    assert [each["claim_id"] for each in whole["claims"]] == ["b"]


def test_each_post_that_is_cited_can_be_opened_or_read(database: Database, database_url: str, ids: list[int]) -> None:
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO actp_feedback_posts (platform, post_id, text, url, text_sha256) VALUES"
            " ('x', '1', 'Any text', 'https://example.org/x/1', ''),"
            " ('x', '2', E'We write to\\njo@example.org\\x1b[2J', '', '')"
        )
    shown = everreach(database_url, "strategy", "show", "x").output
    assert "- x:1  https://example.org/x/1  Any text\n" in shown
    assert "- x:2  We write to [EMAIL] [2J\n" in shown


def test_the_history_says_what_was_in_force_when_and_what_was_held_and_why(
    database: Database, database_url: str, ids: list[int]
) -> None:
    assert everreach(database_url, "strategy", "rollback", "x", "--yes", "--by", "ann").exit_code == 0
    lines = everreach(database_url, "strategy", "list", "x").output.splitlines()
    assert [int(line.split()[0]) for line in lines] == [ids[0], ids[1], ids[2], ids[0]]
    assert "until" in lines[1]
    assert "held on" in lines[2]
    assert "worse than the one in force" in lines[2]
    assert "in force, again by ann  " in lines[3]
    assert len({line.index(" outcomes, ") for line in lines}) == 1
    assert everreach(database_url, "strategy", "list").output.splitlines() == lines
    with database.connection() as connection:
        connection.execute(
            "INSERT INTO actp_feedback_posts (platform, post_id, text, text_sha256) VALUES ('tiktok', '1', '', '')"
        )
    assert everreach(database_url, "strategy", "list", "tiktok").output == "There are no strategies of tiktok yet.\n"


def test_the_difference_of_two_strategies_is_told(database_url: str, ids: list[int]) -> None:
    told = everreach(database_url, "strategy", "diff", "x").output
    assert f"From strategy {ids[0]} to {ids[1]} of x" in told
    assert "new" in told
    assert "gone" in told
    assert everreach(database_url, "strategy", "diff", "x", str(ids[0]), str(ids[1])).output == told
    assert "no changes" in everreach(database_url, "strategy", "diff", "x", str(ids[1]), str(ids[1])).output
    assert everreach(database_url, "strategy", "rollback", "x", "--to", str(ids[0]), "--yes").exit_code == 0
    assert "there is none to compare it with" in refusal(everreach(database_url, "strategy", "diff", "x"))


def test_a_rollback_asks_first(database_url: str, ids: list[int]) -> None:
    asked = everreach(database_url, "strategy", "rollback", "x", typed="n\n")
    assert asked.exit_code == 1
    assert f"Put strategy {ids[0]} of x" in asked.output
    assert "#launch" in everreach(database_url, "strategy", "show", "x").output
    done = everreach(database_url, "strategy", "rollback", "x", typed="y\n")
    assert f"Strategy {ids[0]} of x is in force again." in done.output
    assert "opens with a number" in everreach(database_url, "strategy", "show", "x").output
    again = everreach(database_url, "strategy", "rollback", "x", "--to", str(ids[1]), "--yes")
    assert f"Strategy {ids[1]} of x is in force again." in again.output


REFUSALS = {
    ("show", "tiktok"): "no strategy is in force on 'tiktok'; platforms with posts: none",
    ("show", "Tik Tok; --"): "no strategy is in force on",
    ("show", "x", "--as-of", "yesterday"): "'yesterday' is no time: write it as 2026-03-01T12:00:00Z",
    ("show", "x", "--as-of", "2026-03-01"): "'2026-03-01' has no time zone",
    ("show", "x", "--as-of", "2999-01-01T00:00:00Z"): "is yet to come",
    ("show", "x", "--as-of", "9999-12-31T23:59:59-10:00"): "beyond the years",
    ("show", "x", "--as-of", "2020-01-01T00:00:00Z"): "the first came into force at",
    ("show", "x", "--held", "--as-of", "2020-01-01T00:00:00Z"): "exclude each other",
    ("show", "tiktok", "--held"): "no strategy of 'tiktok' was held",
    ("list", ""): "platform is empty",
    ("list", "Tik Tok"): "platform is no such name",
    ("list", "tiktok"): "there are no posts of 'tiktok'; platforms with posts: none",
    ("diff", "x", "1", "99"): "x has no strategy 99",
    ("rollback", "tiktok", "--yes"): "no strategy is in force on 'tiktok'",
    ("diff", "x", "0", "1"): "x has no strategy 0",
    ("diff", "x", "1", "0"): "x has no strategy 0",
    ("rollback", "x", "--yes", "--by", "a" * 5_000): "--by is 5,000 characters long, the limit is 200",
    ("rollback", "x", "--yes", "--by", "ann@example.com"): "--by holds an e-mail address",
    ("rollback", "x", "--to", "99", "--yes"): "x has no strategy 99",
    ("rollback", "x", "--to", "0", "--yes"): "x has no strategy 0",
    ("rollback", "x", "--to", "3", "--yes"): "was held and never in force",
    ("score", "tiktok", "A draft", "--account", "ann"): "no strategy is in force on 'tiktok'",
    ("score", "Tik Tok", "A draft", "--account", "ann"): "platform is no such name",
    ("score", "x", "A draft", "--account", "ann@example.com"): "account holds an e-mail address",
    ("score", "x", "A draft", "--account", ""): "--account is empty: name who will publish the draft",
    ("score", "tiktok", "--account", "ann", "--", "-50 %"): "no strategy is in force on 'tiktok'",
    ("score", "x", "A draft"): "Missing option '--account'",
}


@pytest.mark.usefixtures("ids")
def test_what_cannot_be_done_is_said_with_the_reason(database_url: str) -> None:
    said = {each: refusal(everreach(database_url, "strategy", *each)) for each in REFUSALS}
    assert [each for each, message in REFUSALS.items() if message not in said[each]] == []


def test_a_draft_is_refused_before_anything_starts_and_may_come_from_the_standard_input() -> None:
    nowhere = "postgresql:///none?host=/nowhere"
    wrong = everreach(nowhere, "strategy", "score", "Tik Tok", "A draft", "--account", "ann")
    assert "platform is no such name" in refusal(wrong)
    long = everreach(nowhere, "strategy", "score", "x", "-", "--account", "ann", typed="a" * 20_001 + "\n")
    assert "the text has 20,001 characters" in refusal(long)
