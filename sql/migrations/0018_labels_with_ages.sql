-- depends: 0017_embedding_spaces
-- Labels say at which age, against what and how surely; what they follow from is remembered, so that only changes are judged.
ALTER TABLE outcome_labels
    ADD COLUMN checkpoint text CHECK (checkpoint IN ('1h', '6h', '24h', '72h', '7d', '30d')),
    ADD COLUMN is_final boolean NOT NULL DEFAULT false,
    ADD COLUMN same_age boolean NOT NULL DEFAULT false,
    ADD COLUMN level text CHECK (level IN ('type', 'account', 'niche', 'platform')),
    ADD COLUMN spread double precision CHECK (spread > 0),
    ADD COLUMN percentile double precision CHECK (percentile BETWEEN 0 AND 1),
    ADD COLUMN confidence double precision CHECK (confidence BETWEEN 0 AND 1),
    ADD COLUMN is_borderline boolean NOT NULL DEFAULT false,
    ADD COLUMN anchor_multiple double precision,
    ADD COLUMN observed_at timestamptz;
UPDATE outcome_labels AS labels SET observed_at = snapshots.observed_at
FROM outcome_snapshots AS snapshots WHERE snapshots.seq = labels.snapshot_seq;
COMMENT ON COLUMN outcome_labels.spread IS 'Of the reference posts in log space: score times spread is the log of the multiple.';
COMMENT ON COLUMN outcome_labels.confidence IS 'Share of resamples of the reference that give the same label.';
COMMENT ON COLUMN outcome_labels.observed_at IS 'Valid time: since when the label holds of the post. labelled_at and superseded_at are transaction time.';
CREATE INDEX outcome_labels_of_post ON outcome_labels (platform, post_id, seq);

CREATE TABLE label_platforms (
    platform platform_name PRIMARY KEY,
    rules_key text NOT NULL,
    posts_hash numeric NOT NULL
);
COMMENT ON TABLE label_platforms IS 'With which rules, and from which fields of the posts, a platform was last labelled.';

CREATE TABLE label_fingerprints (
    platform platform_name,
    account text,
    fingerprint text NOT NULL,
    judged_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (platform, account)
);
COMMENT ON TABLE label_fingerprints IS 'A hash of everything that the labels of an account follow from: equal, and they need not be found again.';

CREATE TABLE label_anchors (
    platform platform_name,
    account text,
    metric text,
    quarter date,
    median_log double precision NOT NULL,
    posts integer NOT NULL CHECK (posts > 0),
    frozen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (platform, account, metric, quarter)
);
COMMENT ON TABLE label_anchors IS 'Median of ln(1 + metric) of the 365 days that end 90 days before the quarter. Inserted once, never updated.';
