-- depends: 0012_embedding_calls
CREATE TABLE embedding_breakers (
    provider text PRIMARY KEY,
    failures integer NOT NULL CHECK (failures >= 0),
    opened_at timestamptz,
    times_opened integer NOT NULL CHECK (times_opened >= 0),
    probe_until timestamptz
);
COMMENT ON TABLE embedding_breakers IS 'Circuit breakers of embedding providers, shared by all processes; no row: closed.';

CREATE TABLE embedding_dead_letters (
    collection text NOT NULL,
    space_id text NOT NULL,
    input_sha256 bytea NOT NULL,
    doc_id text,
    provider text NOT NULL,
    reason text NOT NULL CHECK (reason IN ('bad_answer', 'refused_by_provider')),
    failed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (collection, space_id, input_sha256)
);
COMMENT ON TABLE embedding_dead_letters IS 'Texts, by hash alone, that a provider has no vector for: they are not sent again until they change or somebody asks.';
