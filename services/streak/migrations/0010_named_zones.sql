-- Only entries that name a zone say where a user is. Of those that are there already it is not known: all count as such.
ALTER TABLE request_log ADD COLUMN names_zone boolean;

CREATE TYPE log_row_3 AS (
    entry_id     uuid,
    user_id      text,
    digest       bytea,
    state        smallint,
    outcome      bytea,
    apply_time   timestamptz,
    metric       text,
    contribution_micros bigint,
    contribution_version bigint,
    occur_time   timestamptz,
    time_zone    text,
    streaks      text[],
    names_zone   boolean
);
