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
    entry_count bigint NOT NULL DEFAULT 0  -- entries ever applied; the newest one's position
);

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
    value_micros   bigint,
    counted        text[] COLLATE "C",     -- achievements to whose accumulators the value was added
    grounds        text[] COLLATE "C"      -- achievements that the entry would have completed by itself
) PARTITION BY RANGE (entry_id);
CREATE INDEX request_log_facts ON request_log (user_id, position) WHERE counted IS NOT NULL OR grounds IS NOT NULL;
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
    highest bigint NOT NULL,               -- the highest that live history reached
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
    entry_id      uuid NOT NULL,           -- the entry that completed, corrected or was undone
    fact_time     timestamptz NOT NULL,    -- when the completing entry occurred; when it was revoked
    PRIMARY KEY (user_id, achievement, completion_id, kind)
);
CREATE INDEX completion_facts_achievement ON completion_facts (achievement);

-- The completions that stand, derived from the facts: at most one per user and achievement (RULES 4.1).
CREATE TABLE live_completions (
    user_id       text COLLATE "C" NOT NULL,
    achievement   text COLLATE "C" NOT NULL,
    completion_id uuid NOT NULL,
    entry_id      uuid NOT NULL,
    complete_time timestamptz NOT NULL,
    target        bigint NOT NULL,         -- what had to be reached when it was earned
    PRIMARY KEY (user_id, achievement)
);

-- What is written goes in as arrays of these, one array a table: a tuple of the service is a row. They are not the tables'
-- own row types, and are never altered: a change of one is another type beside it (docs/adr/0012).
CREATE TYPE log_row AS (
    entry_id     uuid,
    user_id      text,
    digest       bytea,
    state        smallint,
    outcome      bytea,
    apply_time   timestamptz,
    position     bigint,
    value_micros bigint,
    counted      text[],
    grounds      text[]
);
CREATE TYPE user_row AS (
    user_id     text,
    version     bigint,
    entry_count bigint
);
CREATE TYPE source_row AS (
    user_id text,
    key     text,
    kind    smallint,
    version bigint,
    current bigint,
    highest bigint
);
CREATE TYPE accumulator_row AS (
    user_id        text,
    achievement    text,
    sum_micros     bigint,
    peak_micros    bigint,
    negative_count bigint
);
CREATE TYPE completion_fact_row AS (
    user_id       text,
    achievement   text,
    completion_id uuid,
    kind          smallint,
    entry_id      uuid,
    fact_time     timestamptz
);
CREATE TYPE live_completion_row AS (
    user_id       text,
    achievement   text,
    completion_id uuid,
    entry_id      uuid,
    complete_time timestamptz,
    target        bigint
);
CREATE TYPE live_completion_key AS (
    user_id     text,
    achievement text
);
