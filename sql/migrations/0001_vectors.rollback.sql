DROP TABLE vector_deliveries;
DROP TABLE vector_embeddings;
DROP SEQUENCE vector_revisions;
DROP TABLE embedding_spaces;
