-- depends: 0008_metrics
CREATE TABLE embedding_call_days (
    day date NOT NULL,
    provider text NOT NULL,
    calls bigint NOT NULL,
    PRIMARY KEY (day, provider)
);
COMMENT ON TABLE embedding_call_days IS 'Provider calls by UTC day: a quota is daily, a counter is not.';

CREATE TABLE metric_cursors (
    name text PRIMARY KEY,
    position timestamptz NOT NULL
);
COMMENT ON TABLE metric_cursors IS 'How far a watcher of something outside this database has recorded what it saw.';
