DROP VIEW learned_lessons;
DROP VIEW lesson_documents;
-- The view as 0010_retention.sql has it
CREATE VIEW lesson_documents AS
SELECT lesson_id AS doc_id,
       text,
       text_sha256,
       jsonb_strip_nulls(jsonb_build_object(
           'platform', platform,
           'learned_at', floor(extract(epoch FROM learned_at)))) AS metadata
FROM lessons
WHERE text ~ '\S'
    AND NOT EXISTS (
        SELECT FROM retention_tombstones AS purged
        WHERE purged.collection = 'lesson_embeddings' AND purged.doc_id = lesson_id);
DELETE FROM lessons WHERE claim_id IS NOT NULL;
ALTER TABLE lessons
    DROP COLUMN superseded_by,
    DROP COLUMN superseded_at,
    DROP COLUMN strategy_ids,
    DROP COLUMN evidence,
    DROP COLUMN claim_id;
DROP SEQUENCE learned_lesson_numbers;
DROP TABLE strategy_terms;
DELETE FROM actp_feedback_strategy_archive WHERE status = 'held';
DROP INDEX actp_feedback_strategy_archive_by_platform;
ALTER TABLE actp_feedback_strategy_archive DROP COLUMN status, DROP COLUMN reason;
ALTER TABLE actp_feedback_strategy DROP COLUMN status, DROP COLUMN reason;
