-- The time of the day at which an event happened, for boards with a daily window.

ALTER TABLE request_log ADD COLUMN local_minute smallint;

CREATE TYPE log_row_3 AS (
    entry_id     uuid,
    user_id      text,
    digest       bytea,
    state        smallint,
    outcome      bytea,
    apply_time   timestamptz,
    draft        text,
    metric       text,
    value_micros bigint,
    occur_time   timestamptz,
    local_date   date,
    contribution_micros  bigint,
    contribution_version bigint,
    local_minute         smallint
);
