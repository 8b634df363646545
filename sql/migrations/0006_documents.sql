-- depends: 0003_labels_and_strategies 0005_dead_letters
-- What each vector collection should hold: one row a document, with its text and its allow-listed metadata.
-- Metadata is flat, scalar and free of personal data; a missing value is a missing key.
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
