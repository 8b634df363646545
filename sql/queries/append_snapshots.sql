-- Appends what the rows of `staged` say about metrics to outcome_snapshots; a repeat is not a second row.
-- A row that states no time was observed now, and is news only when its metrics are not on record for the post: else the
-- same file would add rows whenever it is read again. Runs after merge_posts.sql in the same transaction, which has
-- locked the posts, so that two writers of one outcome cannot both find it new.
observed AS (
    SELECT platform, post_id, coalesce(observed_at, now()) AS observed_at, metrics, min(line) AS line
    FROM staged
    WHERE reason IS NULL
      AND metrics <> '{}'
      AND (observed_at IS NOT NULL OR NOT EXISTS (
          SELECT FROM outcome_snapshots AS known
          WHERE known.platform = staged.platform AND known.post_id = staged.post_id AND known.metrics = staged.metrics))
    GROUP BY 1, 2, 3, 4
)
INSERT INTO outcome_snapshots (platform, post_id, observed_at, metrics)
SELECT platform, post_id, observed_at, metrics
FROM observed
ORDER BY line
ON CONFLICT DO NOTHING
RETURNING seq
