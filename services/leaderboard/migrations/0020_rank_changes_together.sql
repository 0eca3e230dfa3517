-- What an entry changed of its user's ranks is one row: the first change in the columns, the others beside it. Replicas of
-- the last release go on writing a row for each, and of what is written so they read the first.

ALTER TABLE rank_events ADD COLUMN others text;

CREATE TYPE rank_event_row_2 AS (
    user_id       text,
    change_time   timestamptz,
    entry_id      uuid,
    board         text,
    run_start     date,
    segment       text,
    previous_rank bigint,
    rank          bigint,
    score         bigint,
    others        text
);
