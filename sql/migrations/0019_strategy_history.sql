-- depends: 0018_labels_with_ages
-- What the gate said of each strategy, when each was in force, and the lessons that follow from strategies.
ALTER TABLE actp_feedback_strategy
    ADD COLUMN status text NOT NULL DEFAULT 'accepted' CHECK (status IN ('accepted', 'held')),
    ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD CHECK (status = 'accepted');
COMMENT ON COLUMN actp_feedback_strategy.reason IS 'Why the gate accepted or held it. Backtest, inputs and code versions are in the column strategy.';

-- The archive has the same columns in the same order, and archived_at behind them.
ALTER TABLE actp_feedback_strategy_archive RENAME COLUMN archived_at TO archived_before;
ALTER TABLE actp_feedback_strategy_archive
    ADD COLUMN status text NOT NULL DEFAULT 'accepted' CHECK (status IN ('accepted', 'held')),
    ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD COLUMN archived_at timestamptz NOT NULL DEFAULT now();
UPDATE actp_feedback_strategy_archive SET archived_at = archived_before;
ALTER TABLE actp_feedback_strategy_archive DROP COLUMN archived_before;
CREATE INDEX actp_feedback_strategy_archive_by_platform ON actp_feedback_strategy_archive (platform, strategy_id);
COMMENT ON TABLE actp_feedback_strategy_archive IS 'Strategies that were in force, and those that the gate held and that never were.';

CREATE TABLE strategy_terms (
    term_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    platform platform_name NOT NULL,
    strategy_id bigint NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz CHECK (until >= since),
    began_by text NOT NULL CHECK (began_by IN ('rebuild', 'rollback')),
    decided_by text CHECK ((began_by = 'rollback') = (decided_by IS NOT NULL))
);
CREATE UNIQUE INDEX strategy_terms_current ON strategy_terms (platform) WHERE until IS NULL;
CREATE INDEX strategy_terms_by_time ON strategy_terms (platform, since);
COMMENT ON TABLE strategy_terms IS 'When which strategy was in force, from since until just before until. A rollback begins another term of an earlier one.';

INSERT INTO strategy_terms (platform, strategy_id, since, until, began_by)
SELECT platform, strategy_id, created_at, greatest(archived_at, created_at), 'rebuild' FROM actp_feedback_strategy_archive
UNION ALL
SELECT platform, strategy_id, created_at, NULL, 'rebuild' FROM actp_feedback_strategy
ORDER BY 2;

-- A lesson that a person wrote has no claim. One that strategies taught has the claim's id, and an id of its own kind.
CREATE SEQUENCE learned_lesson_numbers;
ALTER TABLE lessons
    ADD COLUMN claim_id text,
    ADD COLUMN evidence jsonb,
    ADD COLUMN strategy_ids bigint[],
    ADD COLUMN superseded_at timestamptz,
    ADD COLUMN superseded_by bigint,
    ADD CHECK ((claim_id IS NOT NULL) = (lesson_id LIKE 'learned:%')),
    ADD CHECK (CASE WHEN claim_id IS NULL THEN num_nonnulls(evidence, strategy_ids, superseded_at) = 0
                    ELSE num_nonnulls(platform, learned_at, evidence, strategy_ids) = 4 END),
    ADD CHECK ((superseded_at IS NULL) = (superseded_by IS NULL));
CREATE UNIQUE INDEX lessons_in_force ON lessons (platform, claim_id) WHERE superseded_at IS NULL;

CREATE VIEW learned_lessons AS
SELECT lesson_id, platform, claim_id, text AS claim, evidence, strategy_ids, learned_at AS valid_from,
       superseded_at AS valid_until, superseded_by
FROM lessons WHERE claim_id IS NOT NULL;
COMMENT ON VIEW learned_lessons IS 'Claims that two strategies in a row made as rules; superseded_by names the strategy that no longer makes it.';

-- As in 0010_retention.sql, without what was superseded: a search must not find advice that no longer holds.
CREATE OR REPLACE VIEW lesson_documents AS
SELECT lesson_id AS doc_id,
       text,
       text_sha256,
       jsonb_strip_nulls(jsonb_build_object(
           'platform', platform,
           'learned_at', floor(extract(epoch FROM learned_at)))) AS metadata
FROM lessons
WHERE text ~ '\S'
    AND superseded_at IS NULL
    AND NOT EXISTS (
        SELECT FROM retention_tombstones AS purged
        WHERE purged.collection = 'lesson_embeddings' AND purged.doc_id = lesson_id);
