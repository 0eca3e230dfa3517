-- Where every event contributes whole multiples of X, each crosses its own whenever it arrives: late ones need no other
-- event to be placed. Of what has counted until now nobody knows.
ALTER TABLE trigger_states ADD COLUMN fractional boolean NOT NULL DEFAULT true;
ALTER TABLE trigger_states ALTER COLUMN fractional DROP DEFAULT;

DROP TYPE trigger_state_row_2;
CREATE TYPE trigger_state_row_3 AS (
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
    late_position      bigint
);
