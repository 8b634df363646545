DROP TABLE vectors_aside;
DROP TABLE collection_spaces;
DROP INDEX vector_embeddings_by_space;
