-- depends: 0006_documents
-- A search under a filter counts the rows that match before it trusts an approximate index (resources/vector_db.py).
CREATE INDEX vector_embeddings_metadata ON vector_embeddings USING gin (metadata jsonb_path_ops);
