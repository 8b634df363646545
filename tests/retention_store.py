"""A memory with documents of chosen ages, for the tests of retention."""

import datetime as dt
from pathlib import Path

from psycopg.types.json import Jsonb

from everreach_assets import retention as steps
from everreach_assets.domain.collections import CONTENT, LESSONS, OUTCOMES, PROSPECTS
from everreach_assets.domain.retention import RetentionPolicy
from everreach_assets.embedding import embed_collection
from everreach_assets.retention import PurgeReport, RestoreReport, RetentionRules
from resources.database import Database
from resources.embedder import Embedder
from resources.retention import holds
from resources.retention.plans import Plan
from resources.vector_db import VectorDB
from resources.vector_index import VectorIndex

DAY = dt.timedelta(days=1)
MICROSECOND = dt.timedelta(microseconds=1)
COLLECTION_NAMES = (CONTENT.name, OUTCOMES.name, PROSPECTS.name, LESSONS.name)

POLICY = steps.load_policy(None)


class Store:
    """A memory with documents of chosen ages."""

    def __init__(self, database: Database, index: VectorIndex, archive_folder: Path) -> None:
        self.database = database
        self.embedder = Embedder()
        self.vector_db = VectorDB(database, index, self.embedder.space_of)
        self.rules = RetentionRules(POLICY, archive_folder)

    def run(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        with self.database.connection() as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return [] if cursor.description is None else cursor.fetchall()

    def add_post(
        self,
        name: str,
        age: dt.timedelta | None,
        *,
        account: str = "ann",
        label: str | None = None,
        platform: str = "x",
    ) -> str:
        """A post of that age; with a label, its outcome is as old, and a strategy has consumed it."""
        self.run(
            "INSERT INTO actp_feedback_posts (platform, post_id, account, text, text_sha256, published_at)"
            " VALUES (%s, %s, %s, %s, sha256(%s::bytea), now() - %s::interval)",
            *(platform, name, account, f"Words about {name}", name, age),
        )
        if label is not None:
            self.run(
                """
                WITH snapshot AS (
                    INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics, recorded_at, strategy_id)
                    VALUES (%s, %s, now() - %s::interval, '{"views": 5}', now() - %s::interval, 1) RETURNING seq
                )
                INSERT INTO outcome_labels
                    (platform, post_id, snapshot_seq, label, reason, reference_posts, classifier_version)
                SELECT %s, %s, seq, %s, '', 9, '1' FROM snapshot
                """,
                *(platform, name, age, age, platform, name, label),
            )
        return f"{platform}:{name}"

    def add_prospect(self, name: str, age: dt.timedelta, *, notes: str = "Likes bread") -> str:
        self.run(
            "INSERT INTO prospects (prospect_id, name, email, notes, text_sha256, attributes, first_seen_at)"
            " VALUES (%s, %s, %s, %s, sha256(%s::bytea), %s, now() - %s::interval)",
            *(name, f"Zoë {name}", f"{name}@example.com", notes, notes, Jsonb({"score": 1.5, "tags": ["a"]}), age),
        )
        return name

    def embed(self, *collections: str) -> None:
        for name in collections or COLLECTION_NAMES:
            embed_collection(name, database=self.database, embedder=self.embedder, vector_db=self.vector_db)

    def plan(self, policy: RetentionPolicy = POLICY) -> Plan:
        return steps.make_plan(policy, database=self.database)

    def planned(self) -> list[str]:
        return [each.doc_id for each in steps.planned_items(self.plan(), 10_000, database=self.database)]

    def purge(self, plan_hash: str = "", *, dry_run: bool = False, rules: RetentionRules | None = None) -> PurgeReport:
        return steps.purge(
            rules or self.rules,
            database=self.database,
            vector_db=self.vector_db,
            approved_plan_hash=plan_hash,
            dry_run=dry_run,
        )

    def plan_and_purge(self) -> PurgeReport:
        self.plan()
        return self.purge()

    def restore(self, archive: str, doc_ids: list[str] | None = None) -> RestoreReport:
        return steps.restore(
            self.rules.archives / archive,
            database=self.database,
            vector_db=self.vector_db,
            restored_by="tests",
            doc_ids=doc_ids,
        )

    def hold(self, scope: str, **named: str) -> int:
        with self.database.connection() as connection:
            return holds.place(connection, scope, reason="a question", placed_by="tests", **named)

    def lift(self, *hold_ids: int) -> int:
        with self.database.connection() as connection:
            return holds.lift(connection, hold_ids, "tests")

    def cite(self, doc_id: str, *, as_counter_exemplar: bool = False) -> None:
        """A strategy in force that rests on the document."""
        claim: dict[str, list[str]] = {"exemplars": [], "counter_exemplars": []}
        claim["counter_exemplars" if as_counter_exemplar else "exemplars"].append(doc_id)
        self.run(
            "INSERT INTO actp_feedback_strategy (platform, strategy, summary, outcomes, new_outcomes,"
            " snapshot_watermark, builder_version) VALUES ('x', %s, '', 1, 1, 1, '1')",
            Jsonb({"claims": [claim]}),
        )

    def stored(self, collection: str = CONTENT.name) -> list[str]:
        return [
            str(doc_id)
            for (doc_id,) in self.run(
                "SELECT doc_id FROM vector_embeddings WHERE collection = %s ORDER BY doc_id", collection
            )
        ]

    def tombstones(self) -> list[str]:
        return [str(doc_id) for (doc_id,) in self.run("SELECT doc_id FROM retention_tombstones ORDER BY doc_id")]

    def vectors(self) -> list[tuple[object, ...]]:
        """Every vector, bit by bit, with all that is stored of it but its revision."""
        return self.run(
            "SELECT id, collection, doc_id, vector_send(embedding), metadata, created_at, updated_at, space_id,"
            " text_sha256, scrubber_version FROM vector_embeddings ORDER BY collection, doc_id"
        )

    def people(self) -> list[tuple[object, ...]]:
        """Every prospect's id and all that is known of it, but which transaction wrote the name."""
        return self.run("SELECT prospect_id, to_jsonb(prospects) - 'name_written_by' FROM prospects ORDER BY 1")

    def metric(self, name: str, collection: str | None = None) -> float:
        table = "metric_counters" if name.endswith("_total") else "metric_gauges"
        found = self.run(
            f"SELECT sum(value) FROM {table} WHERE metric = %s AND labels @> %s",
            f"everreach_retention_{name}",
            Jsonb({} if collection is None else {"collection": collection}),
        )
        return float(str(found[0][0] or 0))

    def archive_of(self, report: PurgeReport, collection: str = CONTENT.name) -> str:
        return next(each.archive for each in report.receipts if each.collection == collection)
