DROP TABLE label_anchors;
DROP TABLE label_fingerprints;
DROP TABLE label_platforms;
DROP INDEX outcome_labels_of_post;
ALTER TABLE outcome_labels
    DROP COLUMN checkpoint, DROP COLUMN is_final, DROP COLUMN same_age, DROP COLUMN level, DROP COLUMN spread,
    DROP COLUMN percentile, DROP COLUMN confidence, DROP COLUMN is_borderline, DROP COLUMN anchor_multiple,
    DROP COLUMN observed_at;
