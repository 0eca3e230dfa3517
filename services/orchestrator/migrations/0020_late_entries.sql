-- Entries that came late, by when they occurred: all others were received soon after, and are found by that. Nothing is
-- written to it for an entry that comes in time.
CREATE INDEX entries_late ON entries (user_id, occur_time) WHERE receive_time - occur_time > interval '24 hours';
