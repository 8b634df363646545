DROP VIEW outcome_documents;
DROP VIEW lesson_documents;
DROP VIEW prospect_documents;
DROP VIEW content_documents;
-- The documents as 0006_documents.sql has them
CREATE VIEW content_documents AS
SELECT platform || ':' || post_id AS doc_id,
       text,
       text_sha256,
       jsonb_strip_nulls(jsonb_build_object(
           'platform', platform,
           'account', nullif(account, ''),
           'post_type', nullif(post_type, ''),
           'niche', nullif(niche, ''),
           'published_at', floor(extract(epoch FROM published_at)))) AS metadata,
       platform,
       post_id
FROM actp_feedback_posts
WHERE text ~ '\S';

CREATE VIEW outcome_documents AS
SELECT content.doc_id,
       content.text,
       content.text_sha256,
       content.metadata || jsonb_strip_nulls(jsonb_build_object(
           'label', labels.label,
           'metric', labels.metric,
           'value', labels.value,
           'score', round(labels.score::numeric, 4))) AS metadata
FROM outcome_labels AS labels
JOIN content_documents AS content ON content.platform = labels.platform AND content.post_id = labels.post_id
WHERE labels.superseded_at IS NULL;

CREATE VIEW prospect_documents AS
SELECT prospect_id AS doc_id,
       concat_ws('. ', nullif(job_title, ''), nullif(company, ''), nullif(notes, '')) AS text,
       text_sha256,
       '{}'::jsonb AS metadata
FROM prospects
WHERE concat(job_title, company, notes) ~ '\S';

CREATE VIEW lesson_documents AS
SELECT lesson_id AS doc_id,
       text,
       text_sha256,
       jsonb_strip_nulls(jsonb_build_object(
           'platform', platform,
           'learned_at', floor(extract(epoch FROM learned_at)))) AS metadata
FROM lessons
WHERE text ~ '\S';
DROP VIEW retention_arrivals;
DROP VIEW retention_documents;
DROP VIEW strategy_citations;
DROP TABLE retention_tombstones;
DROP TABLE retention_receipts;
DROP TABLE retention_plan_items;
DROP TABLE retention_plans;
DROP TABLE retention_clock;
DROP TABLE retention_holds;
