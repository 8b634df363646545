-- depends: 0008_metrics
-- Retention: what may not be purged, what was planned, what was done, and what must not come back by itself.
CREATE TABLE retention_holds (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope text NOT NULL CHECK (scope IN ('everything', 'collection', 'document', 'platform', 'account')),
    collection text CHECK (collection ~ '^[a-z][a-z0-9_]{2,39}$'),
    doc_id text CHECK (doc_id <> '' AND octet_length(doc_id) <= 128),
    platform platform_name,
    account text CHECK (account <> ''),
    reason text NOT NULL CHECK (reason ~ '\S' AND length(reason) <= 500),
    placed_by text NOT NULL CHECK (placed_by ~ '\S' AND length(placed_by) <= 100),
    placed_at timestamptz NOT NULL DEFAULT now(),
    lifted_by text,
    lifted_at timestamptz,
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL)),
    CHECK (CASE scope
        WHEN 'everything' THEN num_nonnulls(collection, doc_id, platform, account) = 0
        WHEN 'collection' THEN collection IS NOT NULL AND num_nonnulls(doc_id, platform, account) = 0
        WHEN 'document' THEN doc_id IS NOT NULL AND num_nonnulls(platform, account) = 0
        WHEN 'platform' THEN platform IS NOT NULL AND num_nonnulls(collection, doc_id, account) = 0
        WHEN 'account' THEN num_nonnulls(platform, account) = 2 AND num_nonnulls(collection, doc_id) = 0
    END)
);
COMMENT ON TABLE retention_holds IS 'What must be kept whatever its age. A hold on a document without a collection is one in each.';
CREATE INDEX retention_holds_on_documents ON retention_holds (doc_id) WHERE lifted_at IS NULL AND scope = 'document';
CREATE INDEX retention_holds_on_more ON retention_holds (scope) WHERE lifted_at IS NULL AND scope <> 'document';

CREATE TABLE retention_clock (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    read_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE retention_clock IS 'What the clock of the database said at each plan: a jump stands out.';

CREATE TABLE retention_plans (
    plan_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan_hash text NOT NULL,
    policy_version text NOT NULL,
    counts jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX retention_plans_by_hash ON retention_plans (plan_hash, plan_id);

CREATE TABLE retention_plan_items (
    plan_id bigint NOT NULL REFERENCES retention_plans ON DELETE CASCADE,
    collection text NOT NULL,
    doc_id text NOT NULL,
    rev bigint,
    row_updated_at timestamptz,
    reason text NOT NULL,
    expired_at timestamptz NOT NULL,
    PRIMARY KEY (plan_id, collection, doc_id)
);

CREATE TABLE retention_receipts (
    receipt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan_id bigint NOT NULL REFERENCES retention_plans,
    plan_hash text NOT NULL,
    collection text NOT NULL,
    planned bigint NOT NULL,
    purged bigint NOT NULL DEFAULT 0 CHECK (purged <= planned),
    is_approved boolean NOT NULL,
    archive text NOT NULL,
    archive_sha256 text,
    archived bigint,
    started_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    archive_removed_at timestamptz,
    UNIQUE (plan_id, collection)
);
COMMENT ON TABLE retention_receipts IS 'What a purge did with one collection. The rest of what was planned was kept: held, cited, changed, or left by a purge that was broken off.';
COMMENT ON COLUMN retention_receipts.archive IS 'Name of the file in <EVERREACH_HOME>/archives; archive_sha256 is set once it was verified, and nothing is deleted before.';

CREATE TABLE retention_tombstones (
    collection text NOT NULL,
    doc_id text NOT NULL,
    receipt_id bigint NOT NULL REFERENCES retention_receipts,
    purged_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, doc_id)
);
CREATE INDEX retention_tombstones_by_receipt ON retention_tombstones (receipt_id);
COMMENT ON TABLE retention_tombstones IS 'Purged documents: their text is not embedded again. A row leaves when its document is restored, or when its source comes anew.';

CREATE VIEW strategy_citations AS
SELECT DISTINCT platform, jsonb_array_elements_text((claim -> 'exemplars') || (claim -> 'counter_exemplars')) AS doc_id
FROM actp_feedback_strategy CROSS JOIN LATERAL jsonb_array_elements(strategy -> 'claims') AS claim;
COMMENT ON VIEW strategy_citations IS 'The documents that a strategy in force rests on, so that a person can open them.';

-- What a policy looks at. A doc_id of a post is `platform:post_id`, and a platform has no colon.
CREATE VIEW retention_documents AS
SELECT stored.collection, stored.doc_id, stored.rev, NULL::timestamptz AS row_updated_at,
       posts.platform::text, posts.post_id, posts.platform || ':' || nullif(posts.account, '') AS account, labels.label,
       posts.published_at, posts.first_seen_at, labels.labelled_at, snapshots.recorded_at,
       NULL::timestamptz AS updated_at, NULL::timestamptz AS learned_at
FROM vector_embeddings AS stored
LEFT JOIN actp_feedback_posts AS posts
    ON posts.platform = split_part(stored.doc_id, ':', 1)
    AND posts.post_id = substr(stored.doc_id, strpos(stored.doc_id, ':') + 1)
LEFT JOIN outcome_labels AS labels
    ON labels.platform = posts.platform AND labels.post_id = posts.post_id AND labels.superseded_at IS NULL
LEFT JOIN outcome_snapshots AS snapshots ON snapshots.seq = labels.snapshot_seq
WHERE stored.collection IN ('content_embeddings', 'outcome_embeddings')
UNION ALL  -- the row of a person is purged with the vector, and also where it has none
SELECT 'prospect_embeddings', people.prospect_id, stored.rev, people.updated_at,
       NULL, NULL, NULL, NULL,
       NULL, people.first_seen_at, NULL, NULL,
       people.updated_at, NULL
FROM prospects AS people
LEFT JOIN vector_embeddings AS stored
    ON stored.collection = 'prospect_embeddings' AND stored.doc_id = people.prospect_id
UNION ALL
SELECT stored.collection, stored.doc_id, stored.rev, NULL,
       NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL,
       NULL, NULL
FROM vector_embeddings AS stored
WHERE stored.collection = 'prospect_embeddings'
    AND NOT EXISTS (SELECT FROM prospects AS people WHERE people.prospect_id = stored.doc_id)
UNION ALL
SELECT stored.collection, stored.doc_id, stored.rev, NULL,
       lessons.platform::text, NULL, NULL, NULL,
       NULL, lessons.first_seen_at, NULL, NULL,
       NULL, lessons.learned_at
FROM vector_embeddings AS stored
LEFT JOIN lessons ON lessons.lesson_id = stored.doc_id
WHERE stored.collection = 'lesson_embeddings';

-- When the source of a document came. What came after a purge is a new document, with a new age.
CREATE VIEW retention_arrivals AS
SELECT 'content_embeddings' AS collection, platform || ':' || post_id AS doc_id, first_seen_at AS arrived_at
FROM actp_feedback_posts
UNION ALL
SELECT 'outcome_embeddings', labels.platform || ':' || labels.post_id, snapshots.recorded_at
FROM outcome_labels AS labels JOIN outcome_snapshots AS snapshots ON snapshots.seq = labels.snapshot_seq
WHERE labels.superseded_at IS NULL
UNION ALL
SELECT 'prospect_embeddings', prospect_id, first_seen_at FROM prospects
UNION ALL
SELECT 'lesson_embeddings', lesson_id, first_seen_at FROM lessons;

-- The documents of 0006, without those that were purged. An outcome's text is that of its post, whether or not the post's
-- own vector was purged.
CREATE OR REPLACE VIEW content_documents AS
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
WHERE text ~ '\S'
    AND NOT EXISTS (
        SELECT FROM retention_tombstones AS purged
        WHERE purged.collection = 'content_embeddings' AND purged.doc_id = platform || ':' || post_id);

CREATE OR REPLACE VIEW outcome_documents AS
SELECT posts.platform || ':' || posts.post_id AS doc_id,
       posts.text,
       posts.text_sha256,
       jsonb_strip_nulls(jsonb_build_object(
           'platform', posts.platform,
           'account', nullif(posts.account, ''),
           'post_type', nullif(posts.post_type, ''),
           'niche', nullif(posts.niche, ''),
           'published_at', floor(extract(epoch FROM posts.published_at)),
           'label', labels.label,
           'metric', labels.metric,
           'value', labels.value,
           'score', round(labels.score::numeric, 4))) AS metadata
FROM outcome_labels AS labels
JOIN actp_feedback_posts AS posts ON posts.platform = labels.platform AND posts.post_id = labels.post_id
WHERE labels.superseded_at IS NULL
    AND posts.text ~ '\S'
    AND NOT EXISTS (
        SELECT FROM retention_tombstones AS purged
        WHERE purged.collection = 'outcome_embeddings' AND purged.doc_id = posts.platform || ':' || posts.post_id);

CREATE OR REPLACE VIEW prospect_documents AS
SELECT prospect_id AS doc_id,
       concat_ws('. ', nullif(job_title, ''), nullif(company, ''), nullif(notes, '')) AS text,
       text_sha256,
       '{}'::jsonb AS metadata
FROM prospects
WHERE concat(job_title, company, notes) ~ '\S'
    AND NOT EXISTS (
        SELECT FROM retention_tombstones AS purged
        WHERE purged.collection = 'prospect_embeddings' AND purged.doc_id = prospect_id);

CREATE OR REPLACE VIEW lesson_documents AS
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
