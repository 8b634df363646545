DROP INDEX vector_embeddings_by_space;
CREATE INDEX vector_embeddings_by_space ON vector_embeddings (collection, space_id);
