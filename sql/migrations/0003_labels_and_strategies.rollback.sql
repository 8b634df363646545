DROP TABLE strategy_outcomes;
DROP TABLE actp_feedback_strategy_archive;
DROP TABLE actp_feedback_strategy;
DROP TABLE outcome_labels;
