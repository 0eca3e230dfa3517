-- Points are a fold of facts (RULES 5.1). This release needs a stop: row types that the last one writes are dropped.

-- The definitions of each version by which a fact was judged. Facts from before are taken to be judged by those of now.
CREATE TABLE terms (
    version bigint NOT NULL,
    key     text COLLATE "C" NOT NULL,
    body    bytea NOT NULL,
    PRIMARY KEY (version, key)
);
INSERT INTO terms (version, key, body) SELECT 0, key, body FROM definitions WHERE kind = 'points_system';

CREATE TABLE revisions (
    user_id             text COLLATE "C" NOT NULL,
    entry_id            uuid PRIMARY KEY,
    version             bigint NOT NULL,
    contribution_micros bigint NOT NULL
);

ALTER TABLE request_log RENAME COLUMN value_micros TO contribution_micros;
ALTER TABLE request_log DROP COLUMN metric;
ALTER TABLE request_log ADD COLUMN contribution_version bigint;
ALTER TABLE request_log ADD COLUMN follows boolean;
ALTER TABLE request_log ADD COLUMN terms bigint;
ALTER TABLE request_log ADD COLUMN award_count bigint;
UPDATE request_log SET terms = 0, follows = false, award_count = 0 WHERE position IS NOT NULL;
DROP INDEX request_log_live;
CREATE INDEX request_log_facts ON request_log (user_id, occur_time, position) WHERE position IS NOT NULL;

ALTER TABLE awards ADD COLUMN position bigint;
ALTER TABLE awards ADD COLUMN refolded boolean NOT NULL DEFAULT false;
ALTER TABLE awards ADD COLUMN cause_entry_id uuid;
ALTER TABLE awards ADD COLUMN period date;
-- An award counts at the place of its entry, what reverses it at the place of the award. What a correction gave counts at
-- the newest place that there was when it came: corrections had none.
UPDATE awards SET position = request_log.position, cause_entry_id = awards.entry_id
  FROM request_log WHERE request_log.entry_id = awards.entry_id AND request_log.position IS NOT NULL;
UPDATE awards
   SET cause_entry_id = awards.entry_id, refolded = true,
       position = coalesce((SELECT max(earlier.position) FROM awards AS earlier
                             WHERE earlier.user_id = awards.user_id AND earlier.sequence < awards.sequence), 1)
 WHERE position IS NULL;
UPDATE awards SET position = reversed.position, refolded = true
  FROM awards AS reversed
 WHERE reversed.user_id = awards.user_id AND reversed.award_id = awards.reversed_award_id;
-- An award of a streak trigger is known by its period, of which only the date of the event is left.
UPDATE awards SET period = awards.local_date
  FROM trigger_states
 WHERE trigger_states.user_id = awards.user_id AND trigger_states.points_system = awards.points_system
   AND trigger_states.trigger = awards.trigger AND trigger_states.kind = 2;
ALTER TABLE awards ALTER COLUMN position SET NOT NULL;
ALTER TABLE awards ALTER COLUMN refolded DROP DEFAULT;
ALTER TABLE awards ALTER COLUMN cause_entry_id SET NOT NULL;
DROP VIEW live_awards;
DROP INDEX awards_reversed;
CREATE INDEX awards_refolded ON awards (user_id, position) WHERE refolded;
CREATE INDEX awards_period ON awards (user_id, points_system, trigger) WHERE period IS NOT NULL;

ALTER TABLE balances ADD COLUMN cut_position bigint NOT NULL DEFAULT 0;
UPDATE balances SET cut_position = users.entry_count FROM users WHERE users.user_id = balances.user_id;
ALTER TABLE balances ALTER COLUMN cut_position DROP DEFAULT;

ALTER TABLE users ADD COLUMN first_position bigint;
UPDATE users SET first_position = (SELECT position FROM request_log WHERE entry_id = users.first_entry_id);
ALTER TABLE users DROP COLUMN first_entry_id;

DELETE FROM trigger_states WHERE kind = 3;
ALTER TABLE trigger_states ADD COLUMN due_count bigint NOT NULL DEFAULT 0;
UPDATE trigger_states SET due_count = net_count;
ALTER TABLE trigger_states ADD COLUMN irregular boolean NOT NULL DEFAULT false;
ALTER TABLE trigger_states ADD COLUMN newest_time timestamptz;
ALTER TABLE trigger_states ADD COLUMN late_position bigint NOT NULL DEFAULT 0;
-- Until now nothing came late: all counted as it arrived.
UPDATE trigger_states
   SET due_count = granted_count, irregular = true, late_position = users.entry_count,
       newest_time = (SELECT max(occur_time) FROM request_log
                       WHERE request_log.user_id = users.user_id AND request_log.position IS NOT NULL)
  FROM users
 WHERE users.user_id = trigger_states.user_id AND kind = 1;
ALTER TABLE trigger_states DROP COLUMN net_count;
ALTER TABLE trigger_states DROP COLUMN negative_count;
ALTER TABLE trigger_states ALTER COLUMN due_count DROP DEFAULT;
ALTER TABLE trigger_states ALTER COLUMN irregular DROP DEFAULT;
ALTER TABLE trigger_states ALTER COLUMN late_position DROP DEFAULT;

DROP TYPE user_row;
CREATE TYPE user_row_2 AS (
    user_id        text,
    version        bigint,
    entry_count    bigint,
    award_count    bigint,
    first_position bigint
);
DROP TYPE log_row;
CREATE TYPE log_row_2 AS (
    entry_id             uuid,
    user_id              text,
    digest               bytea,
    state                smallint,
    outcome              bytea,
    apply_time           timestamptz,
    occur_time           timestamptz,
    local_date           date,
    position             bigint,
    contribution_micros  bigint,
    triggers             text[],
    contribution_version bigint,
    follows              boolean,
    terms                bigint,
    award_count          bigint
);
DROP TYPE award_row;
CREATE TYPE award_row_2 AS (
    user_id           text,
    sequence          bigint,
    award_id          uuid,
    points_system     text,
    trigger           text,
    times             bigint,
    base_amount       bigint,
    amount            bigint,
    entry_id          uuid,
    occur_time        timestamptz,
    local_date        date,
    completion_id     uuid,
    reversed_award_id uuid,
    position          bigint,
    refolded          boolean,
    cause_entry_id    uuid,
    period            date
);
DROP TYPE balance_row;
CREATE TYPE balance_row_2 AS (
    user_id       text,
    points_system text,
    balance       bigint,
    lifetime      bigint,
    level         text,
    version       bigint,
    reach_time    timestamptz,
    cut_position  bigint
);
DROP TYPE trigger_state_row;
CREATE TYPE trigger_state_row_2 AS (
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
    newest_time        timestamptz,
    late_position      bigint
);
