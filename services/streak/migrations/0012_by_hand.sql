-- What is done to a user's streak by hand: freezes given, pauses, resets, restores.
ALTER TABLE streak_states ADD COLUMN by_hand json;

CREATE TYPE streak_state_row_2 AS (
    user_id         text,
    streak          text,
    version         bigint,
    length          integer,
    longest         integer,
    reach_time      timestamptz,
    fingerprint     bigint,
    closed_time     timestamptz,
    next_close_time timestamptz,
    state           json,
    by_hand         json
);
