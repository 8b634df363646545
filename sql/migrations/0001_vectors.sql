-- Vectors: the only lasting home of an embedding. An index (Chroma, HNSW) is built from these rows.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE embedding_spaces (
    space_id text PRIMARY KEY,
    provider text NOT NULL,
    model text NOT NULL,
    width integer NOT NULL CHECK (width BETWEEN 1 AND 1536),
    version text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE embedding_spaces IS 'What made a vector. Vectors of two spaces are never compared.';

CREATE SEQUENCE vector_revisions;

CREATE TABLE vector_embeddings (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    collection text NOT NULL CHECK (collection ~ '^[a-z][a-z0-9_]{2,39}$'),
    doc_id text NOT NULL CHECK (doc_id <> '' AND octet_length(doc_id) <= 128),
    embedding vector(1536) NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    space_id text NOT NULL REFERENCES embedding_spaces,
    rev bigint NOT NULL DEFAULT nextval('vector_revisions'),
    text_sha256 bytea,
    scrubber_version text,
    UNIQUE (collection, doc_id)
);
COMMENT ON COLUMN vector_embeddings.rev IS 'Grows with every change of the row; an index row names the rev it was made from.';
COMMENT ON COLUMN vector_embeddings.text_sha256 IS 'Hash of the text before scrubbing: an unchanged text is not embedded again.';

CREATE TABLE vector_deliveries (
    target text NOT NULL,
    collection text NOT NULL,
    doc_id text NOT NULL,
    rev bigint NOT NULL,
    acked_rev bigint,
    is_deleted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (target, collection, doc_id)
);
CREATE INDEX vector_deliveries_pending ON vector_deliveries (target, collection, rev) WHERE acked_rev IS DISTINCT FROM rev;
COMMENT ON TABLE vector_deliveries IS 'Ledger of what each index outside Postgres has acknowledged; apart from the vectors, so that an acknowledgement never touches a vector index.';
