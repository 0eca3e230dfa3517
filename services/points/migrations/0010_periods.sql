-- Which periods a streak trigger is due for and has not awarded, and the other way round. Before, only how many.
ALTER TABLE trigger_states ADD COLUMN periods jsonb;

-- Replicas of the release before go on writing the type of before.
CREATE TYPE trigger_state_row_5 AS (
    user_id            text,
    points_system      text,
    trigger            text,
    kind               smallint,
    granted_count      bigint,
    due_count          bigint,
    accumulated_micros bigint,
    high_micros        bigint,
    every_micros       bigint,
    irregular          boolean,
    fractional         boolean,
    newest_time        timestamptz,
    late_position      bigint,
    next_time          timestamptz,
    zone               text,
    day                date,
    periods            jsonb
);
