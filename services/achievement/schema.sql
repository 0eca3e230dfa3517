-- Shared by every service: definitions, idempotency of mutations, maintenance, the request log, users.

CREATE TABLE definitions (
    key         text COLLATE "C" NOT NULL,
    body        bytea NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, key)
);

CREATE TABLE configuration_version (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version   bigint NOT NULL
);

CREATE TABLE mutation_log (
    method      text COLLATE "C" NOT NULL,
    request_id  text COLLATE "C" NOT NULL,
    digest      bytea NOT NULL,
    response    bytea NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (method, request_id)
);

CREATE TABLE maintenance (
    singleton  boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    hold_until timestamptz
);

CREATE TABLE users (
    user_id     text COLLATE "C" PRIMARY KEY,
    version     bigint NOT NULL,           -- grows with every change of the user's state; guards against lost updates
    entry_count bigint NOT NULL DEFAULT 0, -- entries ever applied; the newest one's position
    withheld    text[],                    -- achievements that an admin has taken away; null: none
    -- What anniversaries follow from, since there are any (RULES 4).
    sign_up_date     date,
    sign_up_zone     text,
    sign_up_version  bigint,               -- of the user, as of which that was said
    eligible         text[],               -- those, and composites above, that only some earn: whose filters matched
    next_anniversary timestamptz           -- when something is due next
);
CREATE INDEX users_anniversary ON users (next_anniversary) WHERE next_anniversary IS NOT NULL;

CREATE TABLE request_log (
    entry_id       uuid PRIMARY KEY,
    user_id        text COLLATE "C" NOT NULL,
    digest         bytea NOT NULL,
    state          smallint NOT NULL,
    outcome        bytea,
    revert_outcome bytea,
    apply_time     timestamptz NOT NULL,
    -- The fact: what has to be known of the entry to undo it, or another one. A tombstone has none.
    position       bigint,                 -- place in the order of application among the user's entries
    value_micros   bigint,                 -- what an event contributes to its metric's total
    counted        text[] COLLATE "C",     -- achievements to whose accumulators that was added
    grounds        text[] COLLATE "C",     -- achievements that the entry can earn where not every one can
    metric         text COLLATE "C",       -- of a metric event
    occur_time     timestamptz,
    local_date     date,
    version        bigint,                 -- as of which the contribution holds, where it can be revised
    late           boolean,                -- an event of the metric with a later time had come before
    undone_count   bigint                  -- how many entries of the user had come when it was undone
) PARTITION BY RANGE (entry_id);
CREATE INDEX request_log_facts ON request_log (user_id, metric, occur_time, entry_id)
    WHERE metric IS NOT NULL OR grounds IS NOT NULL;
CREATE INDEX request_log_late ON request_log (user_id, metric, position) WHERE late;
CREATE TABLE request_log_default PARTITION OF request_log DEFAULT;

CREATE FUNCTION require_rows(actual bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION 'state moved' USING ERRCODE = '40001';
    END IF;
END
$$;

-- How far each metric and streak has come: the newest word of who keeps it.
CREATE TABLE sources (
    user_id text COLLATE "C" NOT NULL,
    key     text COLLATE "C" NOT NULL,
    kind    smallint NOT NULL,             -- 1 metric, 2 streak
    version bigint NOT NULL,
    current bigint NOT NULL,               -- total in micro-units, or length in periods
    highest bigint NOT NULL,               -- of a streak: its longest; of a metric: no less than the sum ever was
    -- Of a metric, what the events that have come contribute.
    sum_micros     bigint NOT NULL,
    negative_count bigint NOT NULL,        -- how many contribute less than nothing
    newest_time    timestamptz,            -- of the newest event that ever came
    PRIMARY KEY (user_id, key, kind)
);

-- Sums of achievements that count only matching events, derived from the facts.
CREATE TABLE accumulators (
    user_id        text COLLATE "C" NOT NULL,
    achievement    text COLLATE "C" NOT NULL,
    sum_micros     bigint NOT NULL,
    peak_micros    bigint NOT NULL,
    negative_count bigint NOT NULL,
    PRIMARY KEY (user_id, achievement)
);
CREATE INDEX accumulators_achievement ON accumulators (achievement);

-- Every completion and revocation that ever was: facts, only ever added to.
CREATE TABLE completion_facts (
    user_id       text COLLATE "C" NOT NULL,
    achievement   text COLLATE "C" NOT NULL,
    completion_id uuid NOT NULL,
    kind          smallint NOT NULL,       -- 1 completed, 2 revoked
    cause_id      uuid NOT NULL,           -- the entry that arrived, corrected or was undone
    fact_time     timestamptz NOT NULL,    -- when it was completed; when it was revoked
    entry_id      uuid NOT NULL,           -- the entry that the completion belongs to
    local_date    date NOT NULL,           -- of that entry
    number        integer NOT NULL DEFAULT 1,  -- of a repeatable one: which time it is
    backdated     boolean NOT NULL DEFAULT false, -- the user had qualified before it could be earned
    PRIMARY KEY (user_id, achievement, completion_id, kind)
);
CREATE INDEX completion_facts_of_user ON completion_facts (user_id, fact_time, completion_id, kind);
CREATE INDEX completion_facts_of_achievement ON completion_facts (achievement, fact_time, completion_id, kind);

-- The completions that stand, derived from the facts: at most one per user and achievement, of a
-- repeatable one each time (RULES 4.1, 4.7).
CREATE TABLE live_completions (
    user_id       text COLLATE "C" NOT NULL,
    achievement   text COLLATE "C" NOT NULL,
    completion_id uuid NOT NULL,
    entry_id      uuid NOT NULL,           -- the entry that it belongs to
    complete_time timestamptz NOT NULL,
    target        bigint NOT NULL,         -- what had to be reached when it was earned
    local_date     date NOT NULL,
    cause_position bigint NOT NULL,        -- of the entry with whose arrival it was granted
    cause_time     timestamptz NOT NULL,
    cause_id       uuid NOT NULL,
    number         integer NOT NULL DEFAULT 1, -- of a repeatable one: which time it is
    backdated      boolean NOT NULL DEFAULT false,
    seen           boolean NOT NULL DEFAULT false, -- the user has been shown it
    PRIMARY KEY (user_id, achievement, number)
);

-- What an admin has taken from users, to be given back when that is voided.
CREATE TABLE withheld_completions (
    revocation_id  uuid NOT NULL,          -- the entry that took it away
    user_id        text COLLATE "C" NOT NULL,
    achievement    text COLLATE "C" NOT NULL,
    completion_id  uuid NOT NULL,
    entry_id       uuid NOT NULL,
    complete_time  timestamptz NOT NULL,
    target         bigint NOT NULL,
    local_date     date NOT NULL,
    cause_position bigint NOT NULL,
    cause_time     timestamptz NOT NULL,
    cause_id       uuid NOT NULL,
    number         integer NOT NULL,
    backdated      boolean NOT NULL,
    PRIMARY KEY (revocation_id, number)
);
CREATE INDEX withheld_completions_user ON withheld_completions (user_id);

-- The search for users who had qualified for an achievement before it could be earned, the last of each (RULES 4.6).
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

-- With which event a streak first had a length that matters, as of a version of the streak.
CREATE TABLE streak_reaches (
    user_id    text COLLATE "C" NOT NULL,
    streak     text COLLATE "C" NOT NULL,
    length     integer NOT NULL,
    version    bigint NOT NULL,            -- 0: not told yet, though it is reached
    entry_id   uuid,                       -- none: reached no more
    occur_time timestamptz,
    local_date date,
    PRIMARY KEY (user_id, streak, length)
);

-- What events contribute from now on that have not come yet.
CREATE TABLE revisions (
    user_id             text COLLATE "C" NOT NULL,
    entry_id            uuid NOT NULL,
    version             bigint NOT NULL,
    contribution_micros bigint NOT NULL,
    PRIMARY KEY (user_id, entry_id)
);

-- What the service changes by itself, for the orchestrator to follow (shared/postgres/feed.py, docs/adr/0014).
CREATE TABLE feed (
    life        integer NOT NULL DEFAULT 1,             -- another one after the database was restored elsewhere
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    sequence    bigint GENERATED BY DEFAULT AS IDENTITY,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    body        bytea NOT NULL,                         -- a serialized laurel.participant.v1.Change
    PRIMARY KEY (life, xid, sequence)
);

CREATE TABLE feed_lives (
    feed text COLLATE "C" PRIMARY KEY,                  -- the table
    life integer NOT NULL                               -- its column's default
);

-- What is written goes in as arrays of these, one array a table: a tuple of the service is a row. They are not the tables'
-- own row types, and are never altered: a change of one is another type beside it (docs/adr/0012).
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
CREATE TYPE user_row AS (
    user_id     text,
    version     bigint,
    entry_count bigint
);
CREATE TYPE user_row_2 AS (
    user_id          text,
    version          bigint,
    entry_count      bigint,
    sign_up_date     date,
    sign_up_zone     text,
    sign_up_version  bigint,
    eligible         text[],
    next_anniversary timestamptz
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
CREATE TYPE accumulator_row AS (
    user_id        text,
    achievement    text,
    sum_micros     bigint,
    peak_micros    bigint,
    negative_count bigint
);
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
CREATE TYPE live_completion_key_2 AS (
    user_id     text,
    achievement text,
    number      integer
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
CREATE TYPE judged_row AS (
    entry_id uuid,
    counted  text[],
    grounds  text[]
);
