-- How many entries of the user had come when this one was undone: whether others came before the correction that follows.
ALTER TABLE request_log ADD COLUMN undone_count bigint;
