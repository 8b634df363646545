-- depends: 0010_retention
-- The space in force of a collection is a row: another setting changes it by a migration only (docs/embeddings.md).
CREATE TABLE collection_spaces (
    collection text PRIMARY KEY,
    space_id text NOT NULL REFERENCES embedding_spaces,
    in_force_since timestamptz NOT NULL DEFAULT now(),
    target_space_id text REFERENCES embedding_spaces CHECK (target_space_id <> space_id),
    kept_space_id text REFERENCES embedding_spaces CHECK (kept_space_id <> space_id),
    kept_until timestamptz,
    CHECK ((kept_space_id IS NULL) = (kept_until IS NULL))
);
COMMENT ON TABLE collection_spaces IS 'Outcomes share the row of the posts, whose vectors they copy.';
COMMENT ON COLUMN collection_spaces.target_space_id IS 'The space that a migration fills.';
COMMENT ON COLUMN collection_spaces.kept_space_id IS 'The space before the last switch: its vectors stay aside until kept_until, to be switched back to.';

CREATE TABLE vectors_aside (
    collection text NOT NULL,
    doc_id text NOT NULL,
    space_id text NOT NULL REFERENCES embedding_spaces,
    embedding vector(1536) NOT NULL,
    text_sha256 bytea NOT NULL,
    scrubber_version text NOT NULL,
    rev bigint NOT NULL DEFAULT nextval('vector_revisions'),
    PRIMARY KEY (collection, doc_id, space_id),
    FOREIGN KEY (collection, doc_id) REFERENCES vector_embeddings (collection, doc_id) ON DELETE CASCADE
);
COMMENT ON TABLE vectors_aside IS 'Second vectors of documents: of the space that is being filled, and of the one that is kept. They go with their document.';

-- Few rows are outside the space in force: they are found, and counted, without reading the others.
CREATE INDEX vector_embeddings_by_space ON vector_embeddings (collection, space_id);

INSERT INTO collection_spaces (collection, space_id)
SELECT DISTINCT ON (collection) collection, space_id
FROM (SELECT CASE collection WHEN 'outcome_embeddings' THEN 'content_embeddings' ELSE collection END AS collection,
             space_id, count(*) AS vectors
      FROM vector_embeddings GROUP BY 1, 2) AS held
ORDER BY collection, vectors DESC, space_id;
