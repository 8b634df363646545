DROP TABLE embedding_dead_letters;
DROP TABLE embedding_breakers;
