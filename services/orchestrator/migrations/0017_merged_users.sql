-- Whom a merged user's id leads to.
ALTER TABLE users ADD COLUMN merged_into text COLLATE "C";
CREATE INDEX users_by_merged_into ON users (merged_into) WHERE merged_into IS NOT NULL;
CREATE TYPE user_row_4 AS (
    user_id     text,
    guard       bigint,
    version     bigint,
    entry_count bigint,
    said        jsonb,
    create_time timestamptz,
    standing    smallint,
    merged_into text
);
