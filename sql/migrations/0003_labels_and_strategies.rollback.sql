ALTER TABLE outcome_snapshots DROP COLUMN strategy_id, DROP COLUMN label_seq;
DROP TABLE actp_feedback_strategy_archive;
DROP TABLE actp_feedback_strategy;
DROP TABLE outcome_labels;
