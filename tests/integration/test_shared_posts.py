"""The four real post sets and the prospects, end to end, with the mappings that the docs show."""

from pathlib import Path

import pytest

from everreach_assets.domain.mapping_files import Kind, load_mapping
from resources.database import Database
from resources.intake import ingest_file

pytestmark = pytest.mark.shared_data

MAPPINGS = Path(__file__).parents[2] / "docs" / "mappings"


def ingest(
    database: Database, folder: Path, mapping: str, kind: Kind = "posts"
) -> list[tuple[int, int, int, int, int]]:
    """(rows, rejected, inserted, unchanged, snapshots) of each file, which a second reading must not change."""
    rule = load_mapping(MAPPINGS / f"{mapping}.yaml")
    results = []
    for path in sorted(folder.glob("*.csv")):
        report = ingest_file(database, kind, path, rule)
        results.append((report.rows, report.rejected, report.inserted, report.unchanged, report.snapshots_inserted))
        assert report.updated == 0
        again = ingest_file(database, kind, path, rule)
        assert (again.inserted, again.updated, again.snapshots_inserted) == (0, 0, 0)
    return results


def one(database: Database, statement: str) -> object:
    with database.connection() as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def test_facebook_with_repeats_zero_only_pages_and_a_file_without_rows(database: Database, shared_data: Path) -> None:
    assert ingest(database, shared_data / "facebook_pages_2016", "facebook") == [
        (2778, 0, 2774, 0, 2774),
        (0, 0, 0, 0, 0),
    ]
    assert one(database, "SELECT count(*) FROM actp_feedback_posts WHERE text = ''") == 532
    assert one(database, "SELECT count(*) FROM content_documents") == 2774 - 532
    # Zeros are what the file says; they are not "unknown".
    zeros = "SELECT count(*) FROM outcome_snapshots WHERE (metrics->>'reactions')::int + (metrics->>'shares')::int = 0"
    assert one(database, zeros + " AND (metrics->>'comments')::int = 0") == 460
    # 2016-06-24 08:32:58 at UTC-5, though New York had summer time.
    first = "SELECT published_at = '2016-06-24 13:32:58Z', account FROM actp_feedback_posts"
    assert one(database, first + " WHERE post_id = '54971236771_10154199304051772'") == (True, "nasa")


def test_reddit_with_long_texts_and_entities(database: Database, shared_data: Path) -> None:
    assert ingest(database, shared_data / "reddit_top_2013", "reddit") == [(2100, 0, 2100, 0, 2100)]
    assert one(database, "SELECT max(length(text)) FROM actp_feedback_posts") == 13533
    assert one(database, "SELECT count(*) FROM actp_feedback_posts WHERE text LIKE '%&amp;%'") == 1  # escaped twice
    assert one(database, "SELECT count(*) FROM actp_feedback_posts WHERE post_type = 'self'") == 569
    assert one(
        database, "SELECT published_at = to_timestamp(1362366304) FROM actp_feedback_posts WHERE post_id = '19m5ji'"
    )


def test_x_in_its_damaged_encoding(database: Database, shared_data: Path) -> None:
    assert ingest(database, shared_data / "twitter_538_2017", "x") == [(3207, 0, 3207, 0, 3207)]
    repaired = "SELECT text LIKE 'We''re expanding our efforts to help Puerto Rico & the USVI%Join us a\u2026 %'"
    assert one(database, repaired + " FROM actp_feedback_posts WHERE post_id = '912724426709504000'") is True
    assert one(database, "SELECT count(*) FROM actp_feedback_posts WHERE text LIKE '%\u2014%'") == 1093
    assert one(database, "SELECT count(*) FROM actp_feedback_posts WHERE text LIKE '%\u2030%'") == 19


def test_x_without_its_encoding_refuses_the_damaged_rows_and_says_what_to_set(
    database: Database, shared_data: Path
) -> None:
    mapping = load_mapping(MAPPINGS / "x.yaml").model_copy(update={"encoding": "utf-8"})
    report = ingest_file(database, "posts", shared_data / "twitter_538_2017" / "BarackObama.csv", mapping)
    assert (report.rows, report.rejected, report.inserted) == (3207, 1378, 1829)
    assert all("set encoding" in rejection.reason for rejection in report.first_rejections)
    assert one(database, "SELECT count(*) FROM ingest_dead_letters") == 1378


def test_youtube_with_videos_in_several_lists_and_disabled_counts(database: Database, shared_data: Path) -> None:
    assert ingest(database, shared_data / "youtube_trending_20181101", "youtube") == [
        (84, 0, 84, 0, 84),
        (77, 0, 31, 46, 38),
        (200, 0, 132, 68, 137),
    ]
    assert one(database, "SELECT count(*) FROM actp_feedback_posts") == 247
    assert one(database, "SELECT count(*) FROM outcome_snapshots WHERE NOT metrics ? 'comments'") == 6
    assert one(database, "SELECT count(*) FROM outcome_snapshots WHERE metrics->>'comments' = '0'") == 0
    late = "SELECT count(*) FROM outcome_snapshots JOIN actp_feedback_posts USING (platform, post_id)"
    assert one(database, late + " WHERE observed_at < published_at") == 0


def test_prospects_stay_apart_from_their_documents(database: Database, shared_data: Path) -> None:
    folder = shared_data / "prospects_fakenamegenerator"
    assert ingest(database, folder, "prospects_fakenamegenerator", "prospects") == [(721, 0, 721, 0, 0)]
    assert one(database, "SELECT name FROM prospects WHERE prospect_id = '4'") == "Peverell Racine"
    assert one(database, "SELECT text FROM prospect_documents WHERE doc_id = '4'") == "Desk clerk. Quickbiz"
