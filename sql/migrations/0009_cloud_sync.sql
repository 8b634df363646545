-- depends: 0008_metrics
-- The ledger also knows the target `cloud`: noted with every write of a collection that may leave, cloud or no cloud.
ALTER TABLE vector_deliveries
    ADD COLUMN pending_since timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN attempts integer NOT NULL DEFAULT 0,
    ADD COLUMN error_class text,
    ADD COLUMN dead_since timestamptz,
    ADD COLUMN acked_vector_sha256 bytea;
COMMENT ON COLUMN vector_deliveries.pending_since IS 'When the row last became pending; kept while it stays so, however often it changes.';
COMMENT ON COLUMN vector_deliveries.dead_since IS 'A dead letter: refused so often that it is sent again only when it changes or a person asks.';
COMMENT ON COLUMN vector_deliveries.acked_vector_sha256 IS 'Of space and vector as the cloud last confirmed them; empty: it holds none. A change of metadata alone sends no vector.';

CREATE INDEX vector_deliveries_dead ON vector_deliveries (target, collection) WHERE dead_since IS NOT NULL;

CREATE TABLE clouds (
    target text PRIMARY KEY,
    address_sha256 bytea NOT NULL,
    policy_sha256 bytea NOT NULL,
    met_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE clouds IS 'To whom the acknowledgements belong, and under which rules: at another address nothing counts as acknowledged.';

CREATE TABLE cloud_collections (
    target text NOT NULL,
    collection text NOT NULL,
    rows_held bigint NOT NULL DEFAULT 0,
    token bigint NOT NULL DEFAULT 0,
    holder text NOT NULL DEFAULT '',
    backend_pid integer NOT NULL DEFAULT 0,
    backend_started_at timestamptz,
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (target, collection)
);
COMMENT ON COLUMN cloud_collections.rows_held IS 'Rows that the cloud has confirmed, kept in step with each batch: counting them would scan the ledger.';
COMMENT ON COLUMN cloud_collections.token IS 'Fencing token of the sync that has the lease: one with an older token acknowledges nothing.';

-- What was stored before is as good as new.
INSERT INTO vector_deliveries (target, collection, doc_id, rev)
SELECT 'cloud', collection, doc_id, rev FROM vector_embeddings
WHERE collection IN ('content_embeddings', 'outcome_embeddings', 'lesson_embeddings')
ON CONFLICT (target, collection, doc_id) DO NOTHING;
