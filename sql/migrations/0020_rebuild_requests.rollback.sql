DROP TABLE strategy_rebuild_requests;
