-- Since when a stream has not been where the feed is.
ALTER TABLE event_streams ADD COLUMN behind_since timestamptz;
