-- Tells a user from who had the id before and was deleted.
ALTER TABLE users ADD COLUMN life bigint NOT NULL DEFAULT 0;
CREATE TYPE user_row_5 AS (
    user_id     text,
    guard       bigint,
    version     bigint,
    entry_count bigint,
    said        jsonb,
    create_time timestamptz,
    standing    smallint,
    merged_into text,
    life        bigint
);
