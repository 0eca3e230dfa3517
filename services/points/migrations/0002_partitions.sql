-- Tables that grow by time are partitioned by entry id, which begins with the time of the event (docs/adr/0010). The table
-- until now becomes the default partition as it is. Months are made by shared/postgres/partitions.py.

ALTER TABLE request_log RENAME TO request_log_default;
ALTER INDEX request_log_pkey RENAME TO request_log_default_pkey;
ALTER INDEX request_log_live RENAME TO request_log_default_user_id_position_idx;
CREATE TABLE request_log (LIKE request_log_default, PRIMARY KEY (entry_id)) PARTITION BY RANGE (entry_id);
CREATE INDEX request_log_live ON request_log (user_id, position) WHERE state = 1 AND position IS NOT NULL;
ALTER TABLE request_log ATTACH PARTITION request_log_default DEFAULT;
