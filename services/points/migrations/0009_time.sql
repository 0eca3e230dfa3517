-- When triggers that go by time are due next. The kinds before have nothing of it.
ALTER TABLE trigger_states ADD COLUMN next_time timestamptz;
ALTER TABLE trigger_states ADD COLUMN zone text COLLATE "C";
ALTER TABLE trigger_states ADD COLUMN day date;
CREATE INDEX trigger_states_due ON trigger_states (next_time) WHERE next_time IS NOT NULL;

-- Replicas of the release before go on writing the type of before.
CREATE TYPE trigger_state_row_4 AS (
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
    day                date
);
