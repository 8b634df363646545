-- depends: 0002_posts_and_outcomes
CREATE TABLE prospects (
    prospect_id text PRIMARY KEY CHECK (prospect_id <> '' AND octet_length(prospect_id) <= 128),
    name text NOT NULL DEFAULT '',
    email text NOT NULL DEFAULT '',
    phone text NOT NULL DEFAULT '',
    company text NOT NULL DEFAULT '',
    job_title text NOT NULL DEFAULT '',
    notes text NOT NULL DEFAULT '',
    text_sha256 bytea NOT NULL,
    attributes jsonb NOT NULL DEFAULT '{}',
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE prospects IS 'Personal data: never leaves this database (collection prospect_embeddings is local-only).';

CREATE TABLE lessons (
    lesson_id text PRIMARY KEY CHECK (lesson_id <> '' AND octet_length(lesson_id) <= 128),
    platform platform_name,
    text text NOT NULL,
    text_sha256 bytea NOT NULL,
    learned_at timestamptz,
    attributes jsonb NOT NULL DEFAULT '{}',
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
