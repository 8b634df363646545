DROP FUNCTION erase_cached_texts;
DROP TABLE embedding_cache_erasures;
DROP TABLE embedding_cache;
DROP TABLE embedding_cache_secret;
