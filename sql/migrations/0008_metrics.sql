-- depends: 0007_metadata_index
-- Totals that outlive the processes that count: what /metrics shows is read from these rows, never from memory.
CREATE TABLE metric_catalogue (
    metric text PRIMARY KEY,
    type text NOT NULL CHECK (type IN ('counter', 'gauge', 'histogram')),
    value_sets jsonb NOT NULL,
    buckets double precision[]
);
COMMENT ON TABLE metric_catalogue IS 'Published from everreach_assets/domain/metric_catalogue.py: what may be recorded.';
COMMENT ON COLUMN metric_catalogue.value_sets IS 'The labels, each with the name of the set that its values come from.';

CREATE TABLE metric_label_values (
    value_set text NOT NULL,
    value text NOT NULL CHECK (value ~ '^[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,63}$' AND value <> 'total'),
    PRIMARY KEY (value_set, value)
);
COMMENT ON TABLE metric_label_values IS 'Closed sets. A value outside its set is counted under "other", so no caller can make a series.';

CREATE TABLE metric_counters (
    metric text NOT NULL REFERENCES metric_catalogue,
    labels jsonb NOT NULL,
    value numeric NOT NULL CHECK (value >= 0 AND value < 'Infinity'),
    PRIMARY KEY (metric, labels)
);

CREATE TABLE metric_gauges (
    metric text NOT NULL REFERENCES metric_catalogue,
    labels jsonb NOT NULL,
    value double precision NOT NULL,
    set_at timestamptz NOT NULL,
    PRIMARY KEY (metric, labels)
);

CREATE TABLE metric_histograms (
    metric text NOT NULL REFERENCES metric_catalogue,
    labels jsonb NOT NULL,
    counts numeric[] NOT NULL,
    sum double precision NOT NULL,
    PRIMARY KEY (metric, labels)
);
COMMENT ON COLUMN metric_histograms.counts IS 'Observations by bucket, not cumulated; the last is above every bound.';

CREATE TABLE cloud_cost_months (
    month date NOT NULL,
    service text NOT NULL,
    usd numeric NOT NULL,
    PRIMARY KEY (month, service)
);
COMMENT ON TABLE cloud_cost_months IS 'everreach_cloud_cost_usd_total by UTC month: a cap is monthly, a counter is not.';

CREATE TABLE metric_record_ids (
    record_id text PRIMARY KEY CHECK (octet_length(record_id) BETWEEN 1 AND 200),
    recorded_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE metric_record_ids IS 'What was recorded already: the same record_id again adds nothing.';

-- The labels as they are stored: all that are declared, each value from its closed set.
CREATE FUNCTION metric_labels(metric text, value_sets jsonb, given jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    missing text;
BEGIN
    SELECT string_agg(name, ', ' ORDER BY name) INTO missing
    FROM (SELECT jsonb_object_keys(value_sets) EXCEPT SELECT jsonb_object_keys(given)) AS absent (name);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '%: it lacks the label %', metric, missing USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT string_agg(left(name, 40), ', ' ORDER BY name) INTO missing
    FROM (SELECT jsonb_object_keys(given) EXCEPT SELECT jsonb_object_keys(value_sets)) AS unknown (name);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '%: it has no label %', metric, left(missing, 200) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM jsonb_each_text(given) WHERE value = 'total') THEN
        RAISE EXCEPTION '%: the label value "total" would double every sum; record the parts', metric
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN (
        SELECT coalesce(jsonb_object_agg(label.name, coalesce(known.value, 'other')), '{}')
        FROM jsonb_each_text(value_sets) AS label (name, value_set)
        LEFT JOIN metric_label_values AS known
            ON known.value_set = label.value_set AND known.value = given ->> label.name
    );
END $$;

-- Add to counters, set gauges, observe into histograms, in the caller's transaction. Answers false, and adds nothing,
-- where the record_id was recorded before.
--   records: [{"metric": ..., "labels": {...}, "value": 1}, {"metric": a histogram, "labels": {...}, "values": [0.2, 3]}]
CREATE FUNCTION record_metrics(records jsonb, record_id text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    fault text;
BEGIN
    SELECT CASE
            WHEN each ->> 'metric' IS NULL THEN 'a record names no metric'
            WHEN catalogue.metric IS NULL THEN format('%s: there is no such metric', left(each ->> 'metric', 80))
            WHEN jsonb_typeof(coalesce(each -> 'labels', '{}')) <> 'object'
                THEN format('%s: labels is an object', catalogue.metric)
            WHEN jsonb_typeof(each -> 'value') IS DISTINCT FROM 'number'
                AND (catalogue.type <> 'histogram' OR jsonb_typeof(each -> 'values') IS DISTINCT FROM 'array'
                    OR jsonb_path_exists(each, '$.values[*] ? (@.type() != "number")'))
                THEN format('%s: value is a number', catalogue.metric)
            WHEN jsonb_path_exists(each, '$.value ? (@ > 1e15 || @ < -1e15)')
                OR jsonb_path_exists(each, '$.values[*] ? (@ > 1e15 || @ < -1e15)')
                THEN format('%s: the value is beyond 1e15', catalogue.metric)
            WHEN catalogue.type = 'counter' AND (each ->> 'value')::numeric < 0
                THEN format('%s: a counter never goes down, got %s', catalogue.metric, each ->> 'value')
        END INTO fault
    FROM jsonb_array_elements(records) AS each
    LEFT JOIN metric_catalogue AS catalogue ON catalogue.metric = each ->> 'metric'
    ORDER BY 1 NULLS LAST
    LIMIT 1;
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION '%', fault USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF record_metrics.record_id IS NOT NULL THEN
        INSERT INTO metric_record_ids (record_id) VALUES (record_metrics.record_id) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    WITH given AS MATERIALIZED (
        SELECT catalogue.metric, catalogue.type, catalogue.buckets, number,
               metric_labels(catalogue.metric, catalogue.value_sets, coalesce(each -> 'labels', '{}')) AS labels,
               CASE WHEN each ? 'values' THEN each -> 'values' ELSE jsonb_build_array(each -> 'value') END AS amounts
        FROM jsonb_array_elements(records) WITH ORDINALITY AS numbered (each, number)
        JOIN metric_catalogue AS catalogue ON catalogue.metric = each ->> 'metric'
    ), amounts AS MATERIALIZED (
        SELECT given.*, amount::numeric AS amount FROM given, jsonb_array_elements_text(given.amounts) AS amount
    ), counted AS (
        INSERT INTO metric_counters AS stored (metric, labels, value)
        SELECT metric, labels, sum(amount) FROM amounts WHERE type = 'counter' GROUP BY metric, labels ORDER BY 1, 2
        ON CONFLICT (metric, labels) DO UPDATE SET value = stored.value + excluded.value
    ), costs AS (
        INSERT INTO cloud_cost_months AS stored (month, service, usd)
        SELECT date_trunc('month', now() AT TIME ZONE 'UTC')::date, labels ->> 'service', sum(amount)
        FROM amounts WHERE metric = 'everreach_cloud_cost_usd_total' GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (month, service) DO UPDATE SET usd = stored.usd + excluded.usd
    ), gauged AS (
        INSERT INTO metric_gauges AS stored (metric, labels, value, set_at)
        SELECT metric, labels, (array_agg(amount ORDER BY number DESC))[1], clock_timestamp()
        FROM amounts WHERE type = 'gauge' GROUP BY metric, labels ORDER BY 1, 2
        ON CONFLICT (metric, labels) DO UPDATE SET value = excluded.value, set_at = excluded.set_at
    ), placed AS (
        SELECT metric, labels, amount, cardinality(buckets) + 1 AS places,
               1 + (SELECT count(*)::integer FROM unnest(buckets) AS bound WHERE bound < amount) AS place
        FROM amounts WHERE type = 'histogram'
    ), observed AS (
        SELECT metric, labels, sum(amount) AS sum, max(places) AS places, array_agg(place) AS hits
        FROM placed GROUP BY metric, labels
    )
    INSERT INTO metric_histograms AS stored (metric, labels, counts, sum)
    SELECT metric, labels,
           (SELECT array_agg(cardinality(array_positions(hits, place))::numeric ORDER BY place)
            FROM generate_series(1, places) AS place),
           sum
    FROM observed ORDER BY 1, 2
    ON CONFLICT (metric, labels) DO UPDATE
    SET sum = stored.sum + excluded.sum,
        counts = (SELECT array_agg(was + added ORDER BY place)
                  FROM unnest(stored.counts, excluded.counts) WITH ORDINALITY AS pairs (was, added, place));
    RETURN true;
END $$;
