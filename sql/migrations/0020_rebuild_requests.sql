-- depends: 0019_strategy_history
-- What was asked for, so that neither deleted runs nor a lost cursor make it forgotten or asked for without end.
CREATE TABLE strategy_rebuild_requests (
    platform platform_name PRIMARY KEY,
    since_strategy bigint NOT NULL,
    attempts integer NOT NULL CHECK (attempts > 0),
    requested_at timestamptz NOT NULL
);
COMMENT ON TABLE strategy_rebuild_requests IS 'The rebuilds of each platform that were asked for since its last strategy.';
COMMENT ON COLUMN strategy_rebuild_requests.since_strategy IS 'That strategy, 0 where there was none: with a newer one the row says nothing any more.';
