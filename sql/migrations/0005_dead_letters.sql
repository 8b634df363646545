-- depends: 0004_prospects_and_lessons
CREATE TABLE ingest_dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('posts', 'outcomes', 'prospects', 'lessons')),
    file text NOT NULL,
    line bigint NOT NULL,
    reason text NOT NULL,
    row jsonb NOT NULL,
    row_sha256 bytea NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, file, line, row_sha256)
);
COMMENT ON TABLE ingest_dead_letters IS 'Rows of files that could not be taken, as they were, with the reason.';
