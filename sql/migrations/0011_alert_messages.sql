-- depends: 0008_metrics
-- Messages that Alertmanager handed over, until dispatch has taken them: its 200 means that the row is here.
CREATE TABLE alert_messages (
    message_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_key text NOT NULL,
    states text[] NOT NULL,
    text text NOT NULL CHECK (text <> '' AND length(text) <= 4096),
    received_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    result text CHECK (result IN ('accepted', 'refused')),
    ended_at timestamptz,
    CHECK ((result IS NULL) = (ended_at IS NULL))
);
COMMENT ON COLUMN alert_messages.group_key IS 'Alertmanager''s name of the group: its messages are sent in their order.';
COMMENT ON COLUMN alert_messages.states IS 'Each alert''s fingerprint, start and state, sorted: the same again is the same delivery.';
COMMENT ON COLUMN alert_messages.result IS 'NULL: waiting. accepted: dispatch took it. refused: it never will.';
CREATE INDEX alert_messages_of_group ON alert_messages (group_key, message_id);
CREATE INDEX alert_messages_waiting ON alert_messages (next_attempt_at) WHERE result IS NULL;
