-- An entry is stored with a draft, and a moment later gets its outcome instead: in place (HOT) where its page has room.
-- Months take this over when they are made (shared/postgres/partitions.py).
ALTER TABLE request_log_default SET (fillfactor = 50);
