"""Labels on a real Postgres: two times in one history, only changes judged, frozen anchors, the commands."""

import datetime as dt
import json
import random
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from everreach_assets import checks
from everreach_assets.classification import ClassificationReport, classify_new_outcomes
from everreach_assets.cli import main
from everreach_assets.domain.label_rules import LabelRules
from resources import outcomes as rows
from resources.database import Database
from resources.intake import ingest_file

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
ALL = "actp_feedback_posts, outcome_snapshots, outcome_labels, label_platforms, label_fingerprints, label_anchors"


class Labels:
    """Posts of platform x, one a day for each account, and their labels."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def observe(self, post: int, views: float, *, day: float = 8, account: str = "ann") -> None:
        published = START + dt.timedelta(days=post)
        values = ("x", f"{account}-{post:03d}")
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT INTO actp_feedback_posts (platform, post_id, account, post_type, text_sha256, published_at)"
                " VALUES (%s, %s, %s, 'tweet', '', %s) ON CONFLICT DO NOTHING",
                (*values, account, published),
            )
            connection.execute(
                "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (*values, published + dt.timedelta(days=day), Jsonb({"views": views})),
            )

    def classify(self, rules: LabelRules | None = None) -> ClassificationReport:
        return classify_new_outcomes(self.database, rules)

    def query(self, statement: str) -> list[tuple[object, ...]]:
        with self.database.connection() as connection:
            return connection.execute(statement.encode()).fetchall()

    def run(self, *statements: str) -> None:
        with self.database.transaction() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def history(self, post_id: str, known_at: dt.datetime | None = None) -> list[rows.LabelRow]:
        with self.database.connection() as connection:
            return rows.label_history(connection, "x", post_id, known_at=known_at)

    def verdicts(self) -> list[tuple[object, ...]]:
        return self.query(
            "SELECT post_id, snapshot_seq, label, checkpoint, is_final, is_borderline, round(score::numeric, 2),"
            " round(spread::numeric, 2) FROM outcome_labels WHERE superseded_at IS NULL ORDER BY post_id"
        )


@pytest.fixture
def labels(database: Database) -> Labels:
    return Labels(database)


@pytest.fixture
def two_accounts(labels: Labels) -> Labels:
    """Two accounts of forty posts each: a hundred views after a day, a thousand after eight."""
    for post in range(40):
        for account in ("ann", "bob"):
            labels.observe(post, 100 + post % 7, day=1, account=account)
            labels.observe(post, 1_000 + post % 7, account=account)
    labels.classify()
    return labels


def test_a_label_is_provisional_then_final_then_corrected_and_every_step_stays(two_accounts: Labels) -> None:
    for views, day in ((5_000, 1), (1_002, 8), (4_000, 8)):
        two_accounts.observe(50, views, day=day)
        two_accounts.classify()
    found = two_accounts.history("ann-050")
    # 1,002 after 5,000 is no total; 4,000 in its place is a loss of a fifth, and still none.
    assert [(row.label, row.checkpoint, row.is_final) for row in found] == [
        ("viral", "24h", False),
        ("insufficient_data", "7d", True),
        ("insufficient_data", "7d", True),
    ]
    two_accounts.observe(50, 5_500)
    two_accounts.classify()
    *before, now = two_accounts.history("ann-050")
    assert (now.label, now.is_final, now.superseded_at) == ("viral", True, None)
    assert [row.superseded_at for row in before] == [row.labelled_at for row in [*before[1:], now]]


def test_what_was_known_at_a_time_of_another_time_can_be_asked(two_accounts: Labels) -> None:
    two_accounts.observe(50, 102, day=1)
    two_accounts.classify()
    two_accounts.observe(50, 5_000, day=8)
    two_accounts.classify()
    two_accounts.observe(50, 1_003, day=8)  # a correction: the same time again
    two_accounts.classify()
    published = START + dt.timedelta(days=50)
    first, second, third = two_accounts.history("ann-050")

    def label(known: dt.datetime | None, valid_days: float | None) -> str | None:
        valid = None if valid_days is None else published + dt.timedelta(days=valid_days)
        row = rows.label_at(two_accounts.history("ann-050", known), valid)
        return row.label if row else None

    assert [label(each.labelled_at, None) for each in (first, second, third)] == ["average", "viral", "average"]
    assert [label(second.labelled_at, days) for days in (0.5, 2, 9)] == [None, "average", "viral"]
    assert [label(None, days) for days in (0.5, 2, 9)] == [None, "average", "average"]
    assert label(first.labelled_at - dt.timedelta(seconds=1), None) is None
    assert two_accounts.history("ann-050", first.labelled_at)[0].superseded_at is None  # nobody knew yet


@pytest.mark.parametrize("written", ["-5", '"many"', "null", "true", "1e400", "[7]"])
def test_what_is_no_count_is_no_label_though_it_came_past_the_intake(two_accounts: Labels, written: str) -> None:
    before = two_accounts.verdicts()
    two_accounts.observe(50, 1_000)
    two_accounts.run(f"UPDATE outcome_snapshots SET metrics = '{{\"views\": {written}}}' WHERE post_id = 'ann-050'")
    two_accounts.classify()
    assert two_accounts.history("ann-050")[-1].label == "insufficient_data"
    assert [each for each in two_accounts.verdicts() if each[0] != "ann-050"] == before


def test_only_the_account_with_something_new_is_judged_and_the_report_says_so(two_accounts: Labels) -> None:
    two_accounts.observe(45, 1_001)
    report = two_accounts.classify()
    assert (report.accounts, report.judged_accounts, report.changed, report.unchanged) == (2, 1, 1, 40)


def test_a_corrected_account_or_publication_is_judged_without_a_new_snapshot(two_accounts: Labels) -> None:
    two_accounts.run("UPDATE actp_feedback_posts SET account = 'bob' WHERE post_id = 'ann-039'")
    assert two_accounts.classify().judged_accounts == 2
    two_accounts.run("UPDATE actp_feedback_posts SET text = 'other' WHERE post_id = 'ann-038'")
    assert two_accounts.classify().accounts == 0


def test_other_rules_label_anew_and_the_same_rules_do_not(two_accounts: Labels) -> None:
    rules = LabelRules({"x": {"final_at": "30d"}})
    assert two_accounts.classify(rules).judged_accounts == 2
    assert two_accounts.query("SELECT count(*) FROM outcome_labels WHERE superseded_at IS NULL AND is_final") == [(0,)]
    assert two_accounts.classify(rules).accounts == 0


def test_a_label_that_was_lost_is_found_again_with_the_next_outcome(two_accounts: Labels) -> None:
    two_accounts.run("UPDATE outcome_labels SET superseded_at = now() WHERE post_id = 'bob-020'")
    two_accounts.observe(45, 1_001)
    two_accounts.classify()
    result = checks.every_outcome_is_in_one_label_history(database=two_accounts.database)
    assert isinstance(result, dg.AssetCheckResult)
    assert result.passed


OBSERVATIONS = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from(["ann", "bob", "eve"]),
        st.sampled_from([0.01, 1, 4, 9]),
        st.integers(0, 5_000),
    ),
    min_size=20,
    max_size=60,
)


@given(OBSERVATIONS, st.integers(0, 2**32 - 1))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_arrivals_in_any_batches_end_with_the_labels_of_a_full_run(
    labels: Labels, observations: list[tuple[int, str, float, int]], seed: int
) -> None:
    labels.run(f"TRUNCATE {ALL}")
    draw = random.Random(seed)  # noqa: S311 - an order, no secret
    left = list(observations)
    draw.shuffle(left)
    while left:
        size = draw.randint(1, len(left))
        for post, account, day, views in left[:size]:
            labels.observe(post, views, day=day, account=account)
        left = left[size:]
        labels.classify()
    stepwise = labels.verdicts()
    labels.run(
        "UPDATE outcome_snapshots SET label_seq = NULL",
        "DELETE FROM outcome_labels",
        "TRUNCATE label_platforms, label_fingerprints",
    )
    labels.classify()
    assert labels.verdicts() == stepwise


# --- anchors ----------------------------------------------------------------------------------------------------


def test_an_anchor_is_frozen_and_the_ratio_shows_a_decline_that_labels_hide(labels: Labels) -> None:
    with labels.database.transaction() as connection:
        connection.execute(
            "INSERT INTO actp_feedback_posts (platform, post_id, account, text_sha256, published_at)"
            " SELECT 'x', n::text, 'ann', '', now() - n * interval '2 days' FROM generate_series(5, 320) AS n"
        )
        connection.execute(
            "INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics)"
            " SELECT platform, post_id, published_at + interval '8 days',"
            " jsonb_build_object('views', round(10000 * 2 ^ (post_id::int / 182.5) * (1 + post_id::int % 7)))"
            " FROM actp_feedback_posts"
        )
    report = labels.classify()
    assert report.labels["x"]["average"] > 150
    frozen = labels.query("SELECT account, quarter, median_log, posts FROM label_anchors ORDER BY quarter")
    assert frozen
    ((ratio,),) = labels.query("SELECT value FROM metric_gauges WHERE metric = 'everreach_reach_vs_anchor_ratio'")
    assert 0.3 < float(str(ratio)) < 0.65  # half the views a year, and the anchor's middle is about a year before
    labels.run("UPDATE outcome_snapshots SET metrics = '{\"views\": 1}', label_seq = NULL")
    labels.classify()
    assert labels.query("SELECT account, quarter, median_log, posts FROM label_anchors ORDER BY quarter") == frozen


# --- what is refused --------------------------------------------------------------------------------------------


def test_a_row_that_was_observed_in_the_future_is_a_dead_letter_with_the_reason(
    database: Database, tmp_path: Path
) -> None:
    now = dt.datetime.now(dt.UTC)
    path = tmp_path / "posts.csv"
    moments = [now - dt.timedelta(days=1), now + dt.timedelta(minutes=3), now + dt.timedelta(minutes=16)]
    lines = [f"x,p{number},{moment.isoformat()},5" for number, moment in enumerate(moments)]
    path.write_text("platform,post_id,observed_at,views\n" + "\n".join(lines) + "\n", encoding="utf-8")
    report = ingest_file(database, "posts", path)
    assert (report.rows, report.rejected, report.snapshots_inserted) == (3, 1, 2)
    (rejected,) = report.first_rejections
    assert (rejected.line, "observed_at: it is in the future: check its time zone" in rejected.reason) == (4, True)


# --- commands ---------------------------------------------------------------------------------------------------


def test_the_commands_report_and_show_the_history(two_accounts: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERREACH_DATABASE_URL", two_accounts.database.url)
    monkeypatch.setenv("CHROMA_HOST", "127.0.0.1")

    def everreach(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(main, ["outcomes", *arguments])
        assert result.exit_code == code, result.output
        return result.output

    figures = json.loads(everreach("report", "--json"))["x"]
    assert (figures["posts"], figures["accounts"], figures["rules"]["viral"]["overall"]) == (80, 2, 0)
    assert "x: 70 of 80 posts compared, 2 accounts with 20 of them" in everreach("report", "x")
    told = " ".join(everreach("report", "x").split())
    assert "insufficient (of all) │ 12.5%" in told
    assert "fixed threshold: 100,000 views, reach or the like, or 5,000 interactions 3 x median: 3 times what" in told
    assert "platforms with posts: x" in everreach("report", "tiktok", code=2)
    shown = everreach("history", "x", "ann-020")
    assert shown.startswith("average: observed 2024-01-29 00:00:00Z, known from ")
    assert "(7d, final, confidence 1.00, classifier 2)" in shown
    assert shown.endswith("holds: average\n")
    assert everreach("history", "x", "ann-020", "--valid-at", "2024-01-20T00:00Z").endswith("not observed yet\n")
    assert "no label of that post" in everreach("history", "x", "ann-020", "--as-of", "2024-01-20T00:00Z", code=2)
    for option in ("--as-of", "--valid-at"):
        assert "is no time" in everreach("history", "x", "ann-020", option, "1769126160", code=2)
        assert "is yet to come" in everreach("history", "x", "ann-020", option, "2999-01-01T00:00Z", code=2)
    assert "platforms with posts: x" in everreach("history", "tiktok", "ann-020", code=2)
