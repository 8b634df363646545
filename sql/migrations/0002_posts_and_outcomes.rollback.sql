DROP TABLE outcome_snapshots;
DROP TABLE actp_feedback_posts;
DROP DOMAIN platform_name;
