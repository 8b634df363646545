DROP FUNCTION count_embedding_calls;
DROP FUNCTION give_back_embedding_calls;
DROP FUNCTION reserve_embedding_calls;
DROP FUNCTION lock_embedding_day;
DROP TABLE embedding_costs;
DROP TABLE embedding_reservations;
