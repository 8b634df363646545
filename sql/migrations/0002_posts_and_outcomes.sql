-- depends: 0001_vectors
-- Posts as they are known, and every observation of their metrics.
CREATE DOMAIN platform_name AS text CHECK (VALUE ~ '^[a-z][a-z0-9_]{0,31}$');

CREATE TABLE actp_feedback_posts (
    platform platform_name NOT NULL,
    post_id text NOT NULL CHECK (post_id <> '' AND octet_length(post_id) <= 95),
    account text NOT NULL DEFAULT '',
    post_type text NOT NULL DEFAULT '',
    niche text NOT NULL DEFAULT '',
    text text NOT NULL DEFAULT '',
    text_sha256 bytea NOT NULL,
    url text NOT NULL DEFAULT '',
    published_at timestamptz,
    attributes jsonb NOT NULL DEFAULT '{}',
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (platform, post_id)
);

CREATE TABLE outcome_snapshots (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    platform platform_name NOT NULL,
    post_id text NOT NULL,
    observed_at timestamptz NOT NULL,
    metrics jsonb NOT NULL CHECK (jsonb_typeof(metrics) = 'object'),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (platform, post_id) REFERENCES actp_feedback_posts,
    UNIQUE (platform, post_id, observed_at, metrics)
);
COMMENT ON TABLE outcome_snapshots IS 'What a post''s metrics were at a time. Rows are added and never changed, but for the two marks of who took them into account.';
