-- How a user stands: whether features are withheld, whether the user is being deleted.
ALTER TABLE users ADD COLUMN standing smallint NOT NULL DEFAULT 0;
CREATE TYPE user_row_3 AS (
    user_id     text,
    guard       bigint,
    version     bigint,
    entry_count bigint,
    said        jsonb,
    create_time timestamptz,
    standing    smallint
);
