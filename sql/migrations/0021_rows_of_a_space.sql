-- depends: 0020_rebuild_requests
-- With the document's id in it: before the first ANALYZE, Postgres looked a single document up by collection and space
-- alone, and so read all rows of the collection for each.
DROP INDEX vector_embeddings_by_space;
CREATE INDEX vector_embeddings_by_space ON vector_embeddings (collection, space_id, doc_id);
