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
    user_id        text COLLATE "C" PRIMARY KEY,
    version        bigint NOT NULL,    -- grows with every change of the user's state; guards against lost updates
    entry_count    bigint NOT NULL,    -- entries ever applied, corrections aside; the newest one's position
    award_count    bigint NOT NULL,    -- rows of the user's ledger; the newest one's sequence
    first_entry_id uuid                -- the entry that counted as the user's creation, until all are undone
);

CREATE TABLE request_log (
    entry_id       uuid PRIMARY KEY,
    user_id        text COLLATE "C" NOT NULL,
    digest         bytea NOT NULL,
    state          smallint NOT NULL,
    outcome        bytea,
    revert_outcome bytea,
    apply_time     timestamptz NOT NULL,
    -- The fact, which is needed to undo it or another one. What was refused or never seen has none.
    occur_time     timestamptz,
    local_date     date,               -- of occur_time in the entry's zone
    position       bigint,             -- place in the order of application; NULL for a correction
    metric         text COLLATE "C",
    value_micros   bigint,
    triggers       text[] COLLATE "C"  -- the metric triggers that the value counts for: system/trigger
) PARTITION BY RANGE (entry_id);

CREATE INDEX request_log_live ON request_log (user_id, position) WHERE state = 1 AND position IS NOT NULL;
CREATE TABLE request_log_default PARTITION OF request_log DEFAULT;

CREATE FUNCTION require_rows(actual bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION 'state moved' USING ERRCODE = '40001';
    END IF;
END
$$;

-- The ledger: only ever added to. The truth about points.
CREATE TABLE awards (
    user_id           text COLLATE "C" NOT NULL,
    sequence          bigint NOT NULL,    -- place in the user's ledger, over all systems, from 1
    award_id          uuid NOT NULL,
    points_system     text COLLATE "C" NOT NULL,
    trigger           text COLLATE "C" NOT NULL,
    times             bigint NOT NULL,    -- how often the trigger awards in this row; negative in a reversal
    base_amount       bigint NOT NULL,
    amount            bigint NOT NULL,
    entry_id          uuid NOT NULL,
    occur_time        timestamptz NOT NULL,
    local_date        date NOT NULL,      -- that the row counts for; a reversal's is that of what it reverses
    completion_id     uuid,               -- of an achievement trigger
    reversed_award_id uuid,               -- of a reversal
    PRIMARY KEY (user_id, sequence)
);

CREATE INDEX awards_completion ON awards (user_id, completion_id) WHERE completion_id IS NOT NULL;
CREATE INDEX awards_reversed ON awards (user_id, reversed_award_id) WHERE reversed_award_id IS NOT NULL;

-- The awards of which something is left.
CREATE VIEW live_awards AS
SELECT awards.*, remainder.live_times
  FROM awards
 CROSS JOIN LATERAL (
           SELECT awards.times + coalesce(sum(reversal.times), 0)::bigint AS live_times
             FROM awards AS reversal
            WHERE reversal.user_id = awards.user_id AND reversal.reversed_award_id = awards.award_id
       ) AS remainder
 WHERE awards.reversed_award_id IS NULL AND remainder.live_times > 0;

-- Derived from the ledger.
CREATE TABLE balances (
    user_id       text COLLATE "C" NOT NULL,
    points_system text COLLATE "C" NOT NULL,
    balance       bigint NOT NULL,
    lifetime      bigint NOT NULL,
    level         text COLLATE "C" NOT NULL,  -- as of the last change; empty for none
    version       bigint NOT NULL,
    reach_time    timestamptz,                -- NULL without a live award
    PRIMARY KEY (user_id, points_system)
) WITH (fillfactor = 85);

CREATE INDEX balances_points_system ON balances (points_system);

-- How far triggers have counted, derived from the facts of the request log.
CREATE TABLE trigger_states (
    user_id            text COLLATE "C" NOT NULL,
    points_system      text COLLATE "C" NOT NULL,
    trigger            text COLLATE "C" NOT NULL,
    kind               smallint NOT NULL,     -- 1 metric, 2 streak, 3 user created
    granted_count      bigint NOT NULL,
    net_count          bigint NOT NULL,
    accumulated_micros bigint NOT NULL,
    high_micros        bigint NOT NULL,
    every_micros       bigint NOT NULL,
    negative_count     bigint NOT NULL,
    PRIMARY KEY (user_id, points_system, trigger)
) WITH (fillfactor = 85);

CREATE INDEX trigger_states_points_system ON trigger_states (points_system);

-- Completions less revocations, per completion: it is rewarded while that is 1.
CREATE TABLE completions (
    user_id       text COLLATE "C" NOT NULL,
    completion_id uuid NOT NULL,
    net_count     bigint NOT NULL,
    PRIMARY KEY (user_id, completion_id)
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
CREATE TYPE user_row AS (
    user_id        text,
    version        bigint,
    entry_count    bigint,
    award_count    bigint,
    first_entry_id uuid
);
CREATE TYPE log_row AS (
    entry_id     uuid,
    user_id      text,
    digest       bytea,
    state        smallint,
    outcome      bytea,
    apply_time   timestamptz,
    occur_time   timestamptz,
    local_date   date,
    position     bigint,
    metric       text,
    value_micros bigint,
    triggers     text[]
);
CREATE TYPE award_row AS (
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
    reversed_award_id uuid
);
CREATE TYPE balance_row AS (
    user_id       text,
    points_system text,
    balance       bigint,
    lifetime      bigint,
    level         text,
    version       bigint,
    reach_time    timestamptz
);
CREATE TYPE trigger_state_row AS (
    user_id            text,
    points_system      text,
    trigger            text,
    kind               smallint,
    granted_count      bigint,
    net_count          bigint,
    accumulated_micros bigint,
    high_micros        bigint,
    every_micros       bigint,
    negative_count     bigint
);
CREATE TYPE completion_row AS (
    user_id       text,
    completion_id uuid,
    net_count     bigint
);
