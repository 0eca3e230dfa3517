-- A qualified period says with which event it qualified, and so does a state (`reach` instead of `qualify_time`).
ALTER TABLE periods ADD COLUMN entry_id uuid, ADD COLUMN local_date date;

UPDATE periods
   SET entry_id = reached.entry_id, local_date = reached.local_date
  FROM periods AS qualified
 CROSS JOIN LATERAL (
       SELECT entry_id, (occur_time AT TIME ZONE time_zone)::date AS local_date FROM request_log
        WHERE user_id = qualified.user_id AND occur_time = qualified.settle_time
          AND state = 1 AND streaks IS NOT NULL AND qualified.streak = ANY(streaks)
        ORDER BY entry_id LIMIT 1
 ) AS reached
 WHERE qualified.status = 2 AND periods.user_id = qualified.user_id AND periods.streak = qualified.streak
   AND periods.start_date = qualified.start_date;

CREATE FUNCTION pg_temp.reach(the_user text, the_streak text, qualify_time text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('entry_id', entry_id, 'occur_time', qualify_time,
                              'local_date', (occur_time AT TIME ZONE time_zone)::date)
      FROM request_log
     WHERE user_id = the_user AND occur_time = qualify_time::timestamptz
       AND state = 1 AND streaks IS NOT NULL AND the_streak = ANY(streaks)
     ORDER BY entry_id LIMIT 1
$$;

UPDATE streak_states
   SET state = jsonb_set(state::jsonb, '{tally}', (state -> 'tally')::jsonb - 'qualify_time' || jsonb_build_object(
           'reach', pg_temp.reach(user_id, streak, state #>> '{tally,qualify_time}')))
 WHERE state IS NOT NULL;
UPDATE streak_states
   SET state = jsonb_set(state::jsonb, '{settled,anchor}',
           (state #> '{settled,anchor}')::jsonb - 'qualify_time' || jsonb_build_object(
           'reach', pg_temp.reach(user_id, streak, state #>> '{settled,anchor,qualify_time}')))
 WHERE json_typeof(state #> '{settled,anchor}') = 'object';

DROP TYPE period_row;
CREATE TYPE period_row_2 AS (
    user_id     text,
    streak      text,
    start_date  date,
    end_date    date,
    status      smallint,
    length      integer,
    settle_time timestamptz,
    entry_id    uuid,
    local_date  date
);
