-- Tables that grow by time are partitioned by entry id, which begins with the time of the event (docs/adr/0010). The table
-- until now becomes the default partition as it is. Months are made by shared/postgres/partitions.py.

ALTER TABLE entries RENAME TO entries_default;
ALTER INDEX entries_pkey RENAME TO entries_default_pkey;
ALTER INDEX entries_by_user RENAME TO entries_default_user_id_receive_time_entry_id_idx;
ALTER INDEX entries_by_metric RENAME TO entries_default_metric_idx;
CREATE TABLE entries (LIKE entries_default, PRIMARY KEY (entry_id)) PARTITION BY RANGE (entry_id);
CREATE INDEX entries_by_user ON entries (user_id, receive_time, entry_id);
CREATE INDEX entries_by_metric ON entries (metric) WHERE metric IS NOT NULL;
ALTER TABLE entries ATTACH PARTITION entries_default DEFAULT;

ALTER TABLE sagas RENAME TO sagas_default;
ALTER INDEX sagas_pkey RENAME TO sagas_default_pkey;
ALTER INDEX sagas_unfinished RENAME TO sagas_default_next_attempt_time_entry_id_idx;
ALTER INDEX sagas_parked RENAME TO sagas_default_create_time_entry_id_idx;
CREATE TABLE sagas (LIKE sagas_default INCLUDING DEFAULTS, PRIMARY KEY (entry_id)) PARTITION BY RANGE (entry_id);
CREATE INDEX sagas_unfinished ON sagas (next_attempt_time, entry_id) WHERE state IN (1, 2, 5);
CREATE INDEX sagas_parked ON sagas (create_time, entry_id) WHERE state = 7;
ALTER TABLE sagas ATTACH PARTITION sagas_default DEFAULT;
