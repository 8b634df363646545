DROP FUNCTION record_metrics(jsonb, text);
DROP FUNCTION metric_labels(text, jsonb, jsonb);
DROP TABLE metric_record_ids;
DROP TABLE cloud_cost_months;
DROP TABLE metric_histograms;
DROP TABLE metric_gauges;
DROP TABLE metric_counters;
DROP TABLE metric_label_values;
DROP TABLE metric_catalogue;
