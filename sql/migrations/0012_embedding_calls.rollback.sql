DROP TABLE metric_cursors;
DROP TABLE embedding_call_days;
