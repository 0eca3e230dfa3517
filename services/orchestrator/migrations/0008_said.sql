-- What was said about a user is kept with its times: runs of each value, in one column (services/orchestrator/said.py).
-- Until now only the newest statement of each had a time; what held before it stands in the ledger ("since").
ALTER TABLE users ADD COLUMN said jsonb;
UPDATE users AS u
   SET said = jsonb_strip_nulls(jsonb_build_object(
           'name', CASE WHEN u.name_time IS NOT NULL THEN
               jsonb_build_array(u.name, (extract(epoch FROM u.name_time) * 1000000)::bigint,
                                 (extract(epoch FROM u.name_time) * 1000000)::bigint) END,
           'time_zone', CASE WHEN u.zone_time IS NOT NULL THEN
               jsonb_build_array(u.time_zone, (extract(epoch FROM u.zone_time) * 1000000)::bigint,
                                 (extract(epoch FROM u.zone_time) * 1000000)::bigint) END,
           -- What was said before all were cleared does not hold.
           'attributes', (SELECT jsonb_object_agg(a.key, jsonb_build_array(
                                     jsonb_build_array(a.value -> 0, a.value -> 1, a.value -> 1)))
                            FROM jsonb_each(u.attributes) AS a
                           WHERE a.key <> ''
                             AND (u.attributes -> '' IS NULL
                                  OR (a.value ->> 1)::bigint >= (u.attributes -> '' ->> 1)::bigint)),
           'cleared', u.attributes -> '' -> 1,
           'since', (SELECT max((a.value ->> 1)::bigint) FROM jsonb_each(u.attributes) AS a)));
ALTER TABLE users
    ALTER COLUMN said SET NOT NULL,
    DROP COLUMN name,
    DROP COLUMN name_time,
    DROP COLUMN time_zone,
    DROP COLUMN zone_time,
    DROP COLUMN attributes;

-- Of each distinct value the first event, in the order of the events' times: it is the one that contributes (RULES 2.2).
ALTER TABLE unique_values ADD COLUMN first_time timestamptz, ADD COLUMN first_id uuid;
UPDATE unique_values AS v
   SET first_time = f.occur_time, first_id = f.entry_id
  FROM (SELECT DISTINCT ON (user_id, metric, unique_value) user_id, metric, unique_value, occur_time, entry_id
          FROM entries
         WHERE live AND unique_value IS NOT NULL
         ORDER BY user_id, metric, unique_value, occur_time, entry_id) AS f
 WHERE (v.user_id, v.metric, v.value) = (f.user_id, f.metric, f.unique_value);
DELETE FROM unique_values WHERE first_id IS NULL;
ALTER TABLE unique_values ALTER COLUMN first_time SET NOT NULL, ALTER COLUMN first_id SET NOT NULL;

CREATE TYPE user_row_2 AS (
    user_id     text,
    guard       bigint,
    version     bigint,
    entry_count bigint,
    said        jsonb,
    create_time timestamptz
);
DROP TYPE user_row;
CREATE TYPE unique_value_key AS (
    user_id text,
    metric  text,
    value   text
);
CREATE TYPE unique_value_row_2 AS (
    user_id    text,
    metric     text,
    value      text,
    first_time timestamptz,
    first_id   uuid
);
DROP TYPE unique_value_row;
