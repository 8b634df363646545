DELETE FROM vector_deliveries WHERE target = 'cloud';
DROP TABLE cloud_collections;
DROP TABLE clouds;
DROP INDEX vector_deliveries_dead;
ALTER TABLE vector_deliveries
    DROP COLUMN acked_vector_sha256,
    DROP COLUMN dead_since,
    DROP COLUMN error_class,
    DROP COLUMN attempts,
    DROP COLUMN pending_since;
