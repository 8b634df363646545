-- depends: 0012_embedding_calls
-- Vectors that were paid for, by what made them: the same text is not paid for twice within the time that it is kept.
-- No text and no bare hash of one is here: hashes of short texts can be guessed, so each is mixed with the secret first.
CREATE TABLE embedding_cache_secret (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    secret bytea NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
);
INSERT INTO embedding_cache_secret DEFAULT VALUES;

CREATE TABLE embedding_cache (
    key bytea PRIMARY KEY CHECK (octet_length(key) = 32),
    vector bytea NOT NULL CHECK (octet_length(vector) = 1536 * 4),
    tags bytea[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE embedding_cache ALTER COLUMN vector SET STORAGE EXTERNAL;  -- float32 does not compress
CREATE INDEX embedding_cache_by_age ON embedding_cache (created_at, key);
CREATE INDEX embedding_cache_by_tag ON embedding_cache USING gin (tags);
CREATE INDEX embedding_cache_without_tag ON embedding_cache (key) WHERE tags = '{}';
COMMENT ON COLUMN embedding_cache.key IS 'sha256(secret || cache key), which is itself a hash of space, scrubber version and scrubbed text.';
COMMENT ON COLUMN embedding_cache.vector IS 'float32, little-endian: exactly what was put.';
COMMENT ON COLUMN embedding_cache.tags IS 'sha256(secret || text_sha256) of the texts that led here, as they were before scrubbing: by them an erasure finds every space and scrubber version. Without one, any erasure takes the row.';

CREATE TABLE embedding_cache_erasures (
    tag bytea PRIMARY KEY,
    erased_at timestamptz NOT NULL DEFAULT now(),
    applied_at timestamptz
);
CREATE INDEX embedding_cache_erasures_pending ON embedding_cache_erasures (tag) WHERE applied_at IS NULL;
COMMENT ON TABLE embedding_cache_erasures IS 'Texts that must be in no cache: what a cache outside this database has yet to delete (applied_at is empty), and what a call that was under way may not put back.';

-- Erase those texts from the cache, in the caller's transaction, and note it for a cache outside; answers how many entries.
CREATE FUNCTION erase_cached_texts(text_hashes bytea[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    erased_tags bytea[];
    erased bigint;
BEGIN
    SELECT array_agg(DISTINCT sha256(secret || hash)) INTO erased_tags
    FROM embedding_cache_secret, unnest(text_hashes) AS hash WHERE hash IS NOT NULL;
    IF erased_tags IS NULL THEN
        RETURN 0;
    END IF;
    LOCK TABLE embedding_cache IN SHARE ROW EXCLUSIVE MODE;  -- who puts meanwhile waits, and then sees the erasure
    INSERT INTO embedding_cache_erasures (tag) SELECT unnest(erased_tags) ORDER BY 1
    ON CONFLICT (tag) DO UPDATE SET erased_at = now(), applied_at = NULL;
    -- No entry is kept for longer than 30 days (EMBEDDING_CACHE_TTL_SECONDS), so there is nothing left to erase.
    DELETE FROM embedding_cache_erasures WHERE erased_at < now() - interval '31 days';
    DELETE FROM embedding_cache WHERE tags && erased_tags OR tags = '{}';
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END $$;
