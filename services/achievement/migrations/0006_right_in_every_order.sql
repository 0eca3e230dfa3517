-- Completions are dated by the order of the events' times: facts say when, of which metric, and what they contribute
-- (docs/adr/0006). What is held and what was summed until now stays; entries of before have no metric, and so are part of
-- what every sum begins with.
ALTER TABLE request_log
    ADD COLUMN metric     text COLLATE "C",
    ADD COLUMN occur_time timestamptz,
    ADD COLUMN local_date date,
    ADD COLUMN version    bigint,
    ADD COLUMN late       boolean;
DROP INDEX request_log_facts;
CREATE INDEX request_log_facts ON request_log (user_id, metric, occur_time, entry_id)
    WHERE metric IS NOT NULL OR grounds IS NOT NULL;
CREATE INDEX request_log_late ON request_log (user_id, metric, position) WHERE late;

ALTER TABLE sources
    ADD COLUMN sum_micros     bigint NOT NULL DEFAULT 0,
    ADD COLUMN negative_count bigint NOT NULL DEFAULT 0,
    ADD COLUMN newest_time    timestamptz;
-- Where a total has been higher than it is, there were negative values.
UPDATE sources SET sum_micros = current, negative_count = (highest > current)::integer WHERE kind = 1;
ALTER TABLE sources ALTER COLUMN sum_micros DROP DEFAULT, ALTER COLUMN negative_count DROP DEFAULT;

-- The event that owns a completion is not always the one with whose arrival it was granted.
ALTER TABLE completion_facts ALTER COLUMN entry_id DROP NOT NULL;
ALTER TABLE completion_facts RENAME COLUMN entry_id TO cause_id;
ALTER TABLE completion_facts ALTER COLUMN cause_id SET NOT NULL;
ALTER TABLE completion_facts ADD COLUMN entry_id uuid, ADD COLUMN local_date date;
UPDATE completion_facts SET entry_id = cause_id, local_date = (fact_time AT TIME ZONE 'UTC')::date WHERE kind = 1;
UPDATE completion_facts AS revoked SET entry_id = earned.entry_id, local_date = earned.local_date
  FROM completion_facts AS earned
 WHERE revoked.kind = 2 AND earned.kind = 1 AND earned.user_id = revoked.user_id
   AND earned.achievement = revoked.achievement AND earned.completion_id = revoked.completion_id;
ALTER TABLE completion_facts ALTER COLUMN entry_id SET NOT NULL, ALTER COLUMN local_date SET NOT NULL;

ALTER TABLE live_completions
    ADD COLUMN local_date     date,
    ADD COLUMN cause_position bigint,
    ADD COLUMN cause_time     timestamptz,
    ADD COLUMN cause_id       uuid;
UPDATE live_completions
   SET local_date = (complete_time AT TIME ZONE 'UTC')::date, cause_time = complete_time, cause_id = live_completions.entry_id,
       cause_position = coalesce((SELECT position FROM request_log WHERE request_log.entry_id = live_completions.entry_id), 0);
ALTER TABLE live_completions
    ALTER COLUMN local_date SET NOT NULL,
    ALTER COLUMN cause_position SET NOT NULL,
    ALTER COLUMN cause_time SET NOT NULL,
    ALTER COLUMN cause_id SET NOT NULL;

CREATE TABLE streak_reaches (
    user_id    text COLLATE "C" NOT NULL,
    streak     text COLLATE "C" NOT NULL,
    length     integer NOT NULL,
    version    bigint NOT NULL,
    entry_id   uuid,
    occur_time timestamptz,
    local_date date,
    PRIMARY KEY (user_id, streak, length)
);
CREATE TABLE revisions (
    user_id             text COLLATE "C" NOT NULL,
    entry_id            uuid NOT NULL,
    version             bigint NOT NULL,
    contribution_micros bigint NOT NULL,
    PRIMARY KEY (user_id, entry_id)
);

CREATE TYPE log_row_2 AS (
    entry_id     uuid,
    user_id      text,
    digest       bytea,
    state        smallint,
    outcome      bytea,
    apply_time   timestamptz,
    position     bigint,
    value_micros bigint,
    counted      text[],
    grounds      text[],
    metric       text,
    occur_time   timestamptz,
    local_date   date,
    version      bigint,
    late         boolean
);
CREATE TYPE source_row_2 AS (
    user_id        text,
    key            text,
    kind           smallint,
    version        bigint,
    current        bigint,
    highest        bigint,
    sum_micros     bigint,
    negative_count bigint,
    newest_time    timestamptz
);
CREATE TYPE completion_fact_row_2 AS (
    user_id       text,
    achievement   text,
    completion_id uuid,
    kind          smallint,
    cause_id      uuid,
    fact_time     timestamptz,
    entry_id      uuid,
    local_date    date
);
CREATE TYPE live_completion_row_2 AS (
    user_id        text,
    achievement    text,
    completion_id  uuid,
    entry_id       uuid,
    complete_time  timestamptz,
    target         bigint,
    local_date     date,
    cause_position bigint,
    cause_time     timestamptz,
    cause_id       uuid
);
CREATE TYPE streak_reach_row AS (
    user_id    text,
    streak     text,
    length     integer,
    version    bigint,
    entry_id   uuid,
    occur_time timestamptz,
    local_date date
);
CREATE TYPE revision_row AS (
    user_id             text,
    entry_id            uuid,
    version             bigint,
    contribution_micros bigint
);
DROP TYPE log_row;
DROP TYPE source_row;
DROP TYPE completion_fact_row;
DROP TYPE live_completion_row;
