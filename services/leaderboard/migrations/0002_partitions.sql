-- Tables that grow by time are partitioned by entry id, which begins with the time of the event (docs/adr/0010). The table
-- until now becomes the default partition as it is. Months are made by shared/postgres/partitions.py.

ALTER TABLE request_log RENAME TO request_log_default;
ALTER INDEX request_log_pkey RENAME TO request_log_default_pkey;
ALTER INDEX request_log_facts RENAME TO request_log_default_user_id_metric_local_date_idx;
CREATE TABLE request_log (LIKE request_log_default, PRIMARY KEY (entry_id)) PARTITION BY RANGE (entry_id);
CREATE INDEX request_log_facts ON request_log (user_id, metric, local_date)
    WHERE metric IS NOT NULL AND state = 1;
ALTER TABLE request_log ATTACH PARTITION request_log_default DEFAULT;

ALTER TABLE rank_events RENAME TO rank_events_default;
ALTER INDEX rank_events_pkey RENAME TO rank_events_default_pkey;
CREATE TABLE rank_events (
    LIKE rank_events_default, PRIMARY KEY (user_id, change_time, entry_id, board, run_start, segment)
) PARTITION BY RANGE (entry_id);
ALTER TABLE rank_events ATTACH PARTITION rank_events_default DEFAULT;
