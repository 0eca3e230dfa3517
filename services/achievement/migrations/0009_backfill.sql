-- A completion can be backdated: the user had qualified before the achievement could be earned. The search for such users is
-- a row for each achievement.
ALTER TABLE completion_facts ADD COLUMN backdated boolean NOT NULL DEFAULT false;
ALTER TABLE live_completions ADD COLUMN backdated boolean NOT NULL DEFAULT false;

CREATE TABLE backfills (
    achievement          text COLLATE "C" PRIMARY KEY,
    backfill_id          uuid NOT NULL,
    state                smallint NOT NULL,         -- as laurel.achievement.v1.BackfillState
    cursor               text COLLATE "C" NOT NULL, -- users up to this one have been looked at
    place                bigint[] NOT NULL,         -- which goes first: level among composites, then what is to be reached
    create_time          timestamptz NOT NULL,
    update_time          timestamptz NOT NULL,
    finish_time          timestamptz,
    user_count           bigint NOT NULL,
    looked_at_count      bigint NOT NULL DEFAULT 0,
    completed_user_count bigint NOT NULL DEFAULT 0,
    completion_count     bigint NOT NULL DEFAULT 0,
    last_error           text NOT NULL DEFAULT ''
);
CREATE INDEX backfills_running ON backfills (place, achievement) WHERE state = 1;

CREATE TYPE completion_fact_row_4 AS (
    user_id       text,
    achievement   text,
    completion_id uuid,
    kind          smallint,
    cause_id      uuid,
    fact_time     timestamptz,
    entry_id      uuid,
    local_date    date,
    number        integer,
    backdated     boolean
);
CREATE TYPE live_completion_row_4 AS (
    user_id        text,
    achievement    text,
    completion_id  uuid,
    entry_id       uuid,
    complete_time  timestamptz,
    target         bigint,
    local_date     date,
    cause_position bigint,
    cause_time     timestamptz,
    cause_id       uuid,
    number         integer,
    backdated      boolean
);
CREATE TYPE judged_row AS (
    entry_id uuid,
    counted  text[],
    grounds  text[]
);
DROP TYPE completion_fact_row_3;
DROP TYPE live_completion_row_3;
