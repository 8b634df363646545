-- Brings the rows of `staged` (a temporary table, or a query of that name put in front) into a table of documents.
-- Of several rows of one document the last line wins, field by field; what is empty never erases what is known; a
-- document that stays as it was is not written. Every document named is locked until the transaction ends.
-- The names in braces are filled in by resources/merge.py.
gathered AS (
    SELECT {keys},
           {latest_fields},
           array_agg(attributes ORDER BY line DESC) AS attributes_by_age
    FROM staged
    WHERE reason IS NULL
    GROUP BY {keys}
),
merged AS (
    INSERT INTO {table} AS known ({keys}, {fields}, text_sha256, attributes)
    SELECT {keys}, {fields}, sha256(convert_to({document}, 'UTF8')),
           CASE WHEN cardinality(attributes_by_age) = 1 THEN attributes_by_age[1]
                ELSE (SELECT coalesce(jsonb_object_agg(entry.key, entry.value ORDER BY age DESC), jsonb_build_object())
                      FROM unnest(attributes_by_age) WITH ORDINALITY AS list (attributes, age),
                           jsonb_each(list.attributes) AS entry)
           END
    FROM gathered
    ORDER BY {keys}  -- two writers lock in one order
    ON CONFLICT ({keys}) DO UPDATE SET
        ({fields}, attributes, text_sha256, updated_at) =
        ROW({merged_fields}, known.attributes || excluded.attributes,
            sha256(convert_to({merged_document}, 'UTF8')), now())
    WHERE ({known_fields}, known.attributes) IS DISTINCT FROM
          ({merged_fields}, known.attributes || excluded.attributes)
    RETURNING xmax = 0 AS is_new  -- only a row that was there before has been locked or updated
)
SELECT (SELECT count(*) FROM gathered),
       (SELECT count(*) FROM merged WHERE is_new),
       (SELECT count(*) FROM merged WHERE NOT is_new)
