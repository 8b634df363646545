-- depends: 0012_embedding_calls
-- Calls that a process has been promised, of a day's quota, and what every call cost.
CREATE TABLE embedding_reservations (
    day date NOT NULL,
    provider text NOT NULL,
    holder uuid NOT NULL,
    calls_left bigint NOT NULL CHECK (calls_left >= 0),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (day, provider, holder)
);
COMMENT ON TABLE embedding_reservations IS 'Calls that a holder may still make of that day''s quota; after expires_at they are anybody''s. The calls that were made are in embedding_call_days, and only there.';

CREATE TABLE embedding_costs (
    day date NOT NULL,
    run_id text NOT NULL,
    asset text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    calls bigint NOT NULL,
    texts bigint NOT NULL,
    tokens bigint NOT NULL,
    unpriced_tokens bigint NOT NULL,
    cost_pico_usd numeric(30, 0) NOT NULL,
    cost_micro_usd bigint GENERATED ALWAYS AS (round(cost_pico_usd / 1000000)) STORED,
    PRIMARY KEY (day, run_id, asset, provider, model)
);
COMMENT ON COLUMN embedding_costs.cost_pico_usd IS 'Tokens times micro-dollars for a million: whole, so that nothing is lost over many small calls.';
COMMENT ON COLUMN embedding_costs.unpriced_tokens IS 'Of the tokens, those of a model without a known price: what they cost is not in the cost.';

-- Take the lock under which the counts of a provider's day change; answers the calls made so far.
CREATE FUNCTION lock_embedding_day(day date, provider text) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO embedding_call_days VALUES (lock_embedding_day.day, lock_embedding_day.provider, 0) ON CONFLICT DO NOTHING;
    RETURN (SELECT calls FROM embedding_call_days AS known
            WHERE known.day = lock_embedding_day.day AND known.provider = lock_embedding_day.provider FOR UPDATE);
END $$;

-- Promise calls of today's quota to the holder, or none of them: then there is no row.
CREATE FUNCTION reserve_embedding_calls(provider text, holder uuid, calls bigint, cap bigint, lifetime interval)
RETURNS TABLE (day date, expires_at timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    today date := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    made bigint := lock_embedding_day(today, reserve_embedding_calls.provider);
    promised bigint;
BEGIN
    DELETE FROM embedding_reservations AS known
    WHERE known.provider = reserve_embedding_calls.provider AND known.expires_at < clock_timestamp();
    SELECT coalesce(sum(known.calls_left), 0) INTO promised FROM embedding_reservations AS known
    WHERE known.day = today AND known.provider = reserve_embedding_calls.provider;
    IF made + promised + reserve_embedding_calls.calls > cap THEN
        RETURN;
    END IF;
    INSERT INTO embedding_reservations AS known (day, provider, holder, calls_left, expires_at)
    VALUES (today, reserve_embedding_calls.provider, reserve_embedding_calls.holder, reserve_embedding_calls.calls,
            clock_timestamp() + lifetime)
    ON CONFLICT (day, provider, holder) DO UPDATE
    SET calls_left = known.calls_left + excluded.calls_left, expires_at = greatest(known.expires_at, excluded.expires_at);
    RETURN QUERY SELECT today, clock_timestamp() + lifetime;
END $$;

-- Give calls back that the holder was promised on that day and did not make.
CREATE FUNCTION give_back_embedding_calls(day date, provider text, holder uuid, calls bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM lock_embedding_day(give_back_embedding_calls.day, give_back_embedding_calls.provider);
    UPDATE embedding_reservations AS known SET calls_left = greatest(calls_left - give_back_embedding_calls.calls, 0)
    WHERE known.day = give_back_embedding_calls.day AND known.provider = give_back_embedding_calls.provider
        AND known.holder = give_back_embedding_calls.holder;
    DELETE FROM embedding_reservations AS known
    WHERE known.day = give_back_embedding_calls.day AND known.provider = give_back_embedding_calls.provider
        AND known.holder = give_back_embedding_calls.holder AND known.calls_left = 0;
END $$;

-- Count calls that were made: of the oldest day of which the holder has some left, else of today. Answers how many calls
-- that day has now, and how many of these were promised.
CREATE FUNCTION count_embedding_calls(provider text, holder uuid, calls bigint)
RETURNS TABLE (calls_of_day bigint, promised bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    of_day date;
    made bigint;
    left_before bigint;
BEGIN
    SELECT coalesce(min(known.day), (clock_timestamp() AT TIME ZONE 'UTC')::date) INTO of_day
    FROM embedding_reservations AS known
    WHERE known.provider = count_embedding_calls.provider AND known.holder = count_embedding_calls.holder
        AND known.calls_left > 0;
    PERFORM lock_embedding_day(of_day, count_embedding_calls.provider);
    SELECT coalesce(max(known.calls_left), 0) INTO left_before FROM embedding_reservations AS known
    WHERE known.day = of_day AND known.provider = count_embedding_calls.provider
        AND known.holder = count_embedding_calls.holder;
    UPDATE embedding_reservations AS known
    SET calls_left = left_before - least(left_before, count_embedding_calls.calls)
    WHERE known.day = of_day AND known.provider = count_embedding_calls.provider
        AND known.holder = count_embedding_calls.holder;
    UPDATE embedding_call_days AS known SET calls = known.calls + count_embedding_calls.calls
    WHERE known.day = of_day AND known.provider = count_embedding_calls.provider RETURNING known.calls INTO made;
    RETURN QUERY SELECT made, least(left_before, count_embedding_calls.calls);
END $$;
