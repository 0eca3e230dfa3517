-- All streaks of a user are on the day of the user's zone, facts count what they contribute, and a freeze that was given
-- back stands in the ledger with what it was spent on.
ALTER TABLE request_log RENAME COLUMN value_micros TO contribution_micros;
ALTER TABLE request_log ADD COLUMN contribution_version bigint;

CREATE TABLE zone_changes (
    user_id    text COLLATE "C" NOT NULL,
    occur_time timestamptz NOT NULL,
    entry_id   uuid NOT NULL,
    time_zone  text NOT NULL,
    PRIMARY KEY (user_id, occur_time, entry_id)
);
CREATE TABLE contributions (
    entry_id            uuid PRIMARY KEY,
    user_id             text COLLATE "C" NOT NULL,
    contribution_micros bigint NOT NULL,
    version             bigint NOT NULL
);

INSERT INTO zone_changes (user_id, occur_time, entry_id, time_zone)
SELECT user_id, occur_time, entry_id, time_zone
  FROM (SELECT user_id, occur_time, entry_id, time_zone,
               lag(time_zone) OVER (PARTITION BY user_id ORDER BY occur_time, entry_id) AS before
          FROM request_log WHERE state = 1 AND streaks IS NOT NULL) AS facts
 WHERE before IS DISTINCT FROM time_zone;

ALTER TABLE users ADD COLUMN time_zone text, ADD COLUMN user_version bigint NOT NULL DEFAULT 0, ADD COLUMN move_time timestamptz;
ALTER TABLE users ALTER COLUMN user_version DROP DEFAULT;
INSERT INTO users (user_id, version, user_version)
SELECT DISTINCT user_id, 0, 0 FROM zone_changes
    ON CONFLICT (user_id) DO NOTHING;
UPDATE users
   SET time_zone = newest.time_zone, move_time = CASE WHEN newest.count > 1 THEN newest.occur_time END
  FROM (SELECT DISTINCT ON (user_id) user_id, time_zone, occur_time, count(*) OVER (PARTITION BY user_id) AS count
          FROM zone_changes ORDER BY user_id, occur_time DESC, entry_id DESC) AS newest
 WHERE users.user_id = newest.user_id;
-- Nothing is left of what these did; the next entry says where they are.
DELETE FROM users WHERE time_zone IS NULL AND NOT EXISTS (SELECT FROM streak_states WHERE user_id = users.user_id);
UPDATE users SET time_zone = 'UTC' WHERE time_zone IS NULL;
ALTER TABLE users ALTER COLUMN time_zone SET NOT NULL;
-- Where all that is known says the same, and where the first said otherwise, nothing is kept of the time before.
DELETE FROM zone_changes USING users WHERE users.user_id = zone_changes.user_id AND users.move_time IS NULL;

-- Of whoever was in one zone, and whose events came on the date on which they happened, the state says what it said. All
-- others are folded anew when they are next looked at.
CREATE TEMPORARY TABLE refolded ON COMMIT DROP AS
SELECT user_id FROM users WHERE move_time IS NOT NULL
 UNION
SELECT DISTINCT user_id FROM request_log
 WHERE state = 1 AND metric IS NOT NULL
   AND (apply_time AT TIME ZONE time_zone)::date > (occur_time AT TIME ZONE time_zone)::date;
UPDATE streak_states
   SET state = (state::jsonb - 'newest_order' - 'newest_zone' #- '{settled,zones}' || jsonb_build_object(
           'zones', jsonb_build_array(jsonb_build_array(
               coalesce(state #> '{settled,anchor,period}', state #> '{tally,period}'), state ->> 'newest_zone'))))::json,
       fingerprint = fingerprint + (SELECT count(*) FROM refolded WHERE refolded.user_id = streak_states.user_id)
 WHERE state IS NOT NULL;
UPDATE streak_states
   SET state = jsonb_set(state::jsonb, '{settled,anchor,known_date}', to_jsonb(periods.end_date))
  FROM periods
 WHERE json_typeof(state #> '{settled,anchor}') = 'object' AND periods.user_id = streak_states.user_id
   AND periods.streak = streak_states.streak AND periods.status = 2
   AND periods.settle_time = (state #>> '{settled,anchor,reach,occur_time}')::timestamptz;

ALTER TABLE freeze_ledger ADD COLUMN about_date date;
UPDATE freeze_ledger SET about_date = effective_date;
ALTER TABLE freeze_ledger ALTER COLUMN about_date SET NOT NULL;
ALTER TABLE freeze_ledger DROP CONSTRAINT freeze_ledger_pkey;
ALTER TABLE freeze_ledger ADD PRIMARY KEY (user_id, streak, effective_date, reason, about_date);

DROP TYPE user_row;
CREATE TYPE user_row_2 AS (
    user_id      text,
    version      bigint,
    time_zone    text,
    user_version bigint,
    move_time    timestamptz
);
DROP TYPE log_row;
CREATE TYPE log_row_2 AS (
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
    streaks      text[]
);
DROP TYPE freeze_ledger_row;
CREATE TYPE freeze_ledger_row_2 AS (
    user_id        text,
    streak         text,
    effective_date date,
    reason         smallint,
    amount         integer,
    about_date     date
);
DROP TYPE freeze_ledger_key;
CREATE TYPE freeze_ledger_key_2 AS (
    user_id        text,
    streak         text,
    effective_date date,
    reason         smallint,
    about_date     date
);
CREATE TYPE zone_change_row AS (
    user_id    text,
    occur_time timestamptz,
    entry_id   uuid,
    time_zone  text
);
CREATE TYPE zone_change_key AS (
    user_id    text,
    occur_time timestamptz,
    entry_id   uuid
);
CREATE TYPE contribution_row AS (
    entry_id            uuid,
    user_id             text,
    contribution_micros bigint,
    version             bigint
);
