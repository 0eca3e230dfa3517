-- Ids are drawn when an entry is recorded; what makes a request known again is its key, kept for ever (RULES 2.4).
CREATE TABLE entry_keys (
    key_id   uuid PRIMARY KEY,           -- derived from user, metric and idempotency key, or user and request id
    entry_id uuid NOT NULL
);
-- Until now the id of an entry was derived from its key.
INSERT INTO entry_keys (key_id, entry_id)
SELECT entry_id, entry_id FROM entries WHERE kind IN ('metric_event', 'user_update', 'achievement_call');
