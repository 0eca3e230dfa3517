-- Definitions of metrics, and what every mutation of them needs.
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

-- Writes of definitions that are decided: what each service has to write, until it has. Kept as a record afterwards.
CREATE TABLE definition_writes (
    write_id    uuid NOT NULL,
    owner       text COLLATE "C" NOT NULL,
    request     bytea NOT NULL,         -- participant.v1.WriteDefinitionsRequest
    create_time timestamptz NOT NULL,
    finish_time timestamptz,
    PRIMARY KEY (write_id, owner)
);
CREATE INDEX definition_writes_unfinished ON definition_writes (create_time, write_id) WHERE finish_time IS NULL;

-- The ledger: one row for everything that was ever tried. Only `live` changes.
CREATE TABLE entries (
    entry_id     uuid PRIMARY KEY,
    kind         text COLLATE "C" NOT NULL,
    user_id      text COLLATE "C" NOT NULL,
    metric       text COLLATE "C",
    value_micros bigint,
    unique_value text COLLATE "C",
    position     bigint,                 -- place in the order in which events were added to the total
    occur_time   timestamptz NOT NULL,
    receive_time timestamptz NOT NULL,
    digest       bytea NOT NULL,         -- of the request: the same key with another payload is refused
    request      bytea NOT NULL,         -- as received
    entry        bytea NOT NULL,         -- as every participant is told
    origin_id    uuid,                   -- of a correction: the entry that was undone
    live         boolean NOT NULL,       -- counts in totals and in the user
    origin       smallint,               -- live, import, backfill, maintenance; null before origins were recorded
    actor        text,                   -- who asked for it, where the caller said so
    reason       text,
    other_user_ids text[]                -- whom it concerns besides the acting user
) PARTITION BY RANGE (entry_id);
CREATE INDEX entries_by_user ON entries (user_id, receive_time, entry_id);
CREATE INDEX entries_by_other_user ON entries USING gin (other_user_ids) WHERE other_user_ids IS NOT NULL;
CREATE INDEX entries_by_metric ON entries (metric) WHERE metric IS NOT NULL;
-- Those that came late; all others were received soon after they occurred, and are found by that.
CREATE INDEX entries_late ON entries (user_id, occur_time) WHERE receive_time - occur_time > interval '24 hours';
CREATE TABLE entries_default PARTITION OF entries DEFAULT;

-- What makes a request known again, kept for ever (RULES 2.4).
CREATE TABLE entry_keys (
    key_id   uuid PRIMARY KEY,           -- derived from user, metric and idempotency key, or user and request id
    entry_id uuid NOT NULL
);

-- One saga for each entry.
CREATE TABLE sagas (
    entry_id          uuid PRIMARY KEY,
    user_id           text COLLATE "C" NOT NULL,
    state             smallint NOT NULL,
    instance          text COLLATE "C" NOT NULL,
    attempt_count     integer NOT NULL DEFAULT 0,
    create_time       timestamptz NOT NULL,
    next_attempt_time timestamptz NOT NULL,
    settle_time       timestamptz,
    reply             bytea,             -- the original reply, byte for byte
    rejection         bytea,             -- common.v1.Error
    correction        bytea,             -- once taken out: the entry that participants are told
    parked_state      smallint,          -- while parked: the state to go on from
    abandon_reason    text,              -- an operator gave it up: it ends undone at the next failure
    void_reason       text,
    void_reply        bytea,
    last_error        text,
    undo              text[],            -- once decided: the steps to undo, by name
    applied_steps     text[],            -- once decided: the steps that had answered
    applied           bytea[],           -- what they had answered: laurel.ledger.v1.Effects
    void_actor        text,              -- who voided it, where the caller said so
    void_time         timestamptz        -- when that was decided
) PARTITION BY RANGE (entry_id);
CREATE INDEX sagas_unfinished ON sagas (next_attempt_time, entry_id) WHERE state IN (1, 2, 5);
CREATE INDEX sagas_parked ON sagas (create_time, entry_id) WHERE state = 7;
CREATE INDEX sagas_voiding ON sagas (user_id) WHERE state = 5;
CREATE TABLE sagas_default PARTITION OF sagas DEFAULT WITH (fillfactor = 80);

CREATE TABLE users (
    user_id     text COLLATE "C" PRIMARY KEY,
    guard       bigint NOT NULL,         -- grows with every write: optimistic concurrency
    version     bigint NOT NULL,         -- grows with every change of the user
    entry_count bigint NOT NULL,         -- live entries; a user without any was undone
    create_time timestamptz NOT NULL,
    said        jsonb NOT NULL,          -- name, zone and attributes with their times: services/orchestrator/said.py
    standing    smallint NOT NULL DEFAULT 0, -- 0 like any other, 1 in the control group, 2 being deleted
    merged_into text COLLATE "C",        -- whom the id leads to
    life        bigint NOT NULL DEFAULT 0 -- another than of who had the id before and was deleted
) WITH (fillfactor = 80);
CREATE INDEX users_by_merged_into ON users (merged_into) WHERE merged_into IS NOT NULL;

CREATE TABLE totals (
    user_id      text COLLATE "C" NOT NULL,
    metric       text COLLATE "C" NOT NULL,
    total_micros bigint NOT NULL,
    peak_micros  bigint NOT NULL,
    gross_micros bigint NOT NULL,
    event_count  bigint NOT NULL,
    version      bigint NOT NULL,
    newest_time  timestamptz,
    newest_id    uuid,
    PRIMARY KEY (user_id, metric)
) WITH (fillfactor = 80);

-- The distinct values of UNIQUE metrics.
CREATE TABLE unique_values (
    user_id text COLLATE "C" NOT NULL,
    metric  text COLLATE "C" NOT NULL,
    value   text COLLATE "C" NOT NULL,
    first_time timestamptz NOT NULL,     -- of the first event with it, in the order of the events' times
    first_id   uuid NOT NULL,
    PRIMARY KEY (user_id, metric, value)
);

-- Which replicas live: the sagas of a replica whose lease has run out are taken over.
CREATE TABLE instances (
    instance    text COLLATE "C" PRIMARY KEY,
    start_time  timestamptz NOT NULL,
    lease_until timestamptz NOT NULL
);

-- How far each service's change feed has been followed.
CREATE TABLE feed_cursors (
    feed     text COLLATE "C" PRIMARY KEY,
    cursor   text NOT NULL
);

-- Keys of callers (RULES 9.2). Of a secret there is its SHA-256 alone: 256 random bits need no slower one.
CREATE TABLE keys (
    key_id          text COLLATE "C" PRIMARY KEY,  -- public part of the credential
    name            text COLLATE "C" NOT NULL,
    scopes          smallint[] NOT NULL,           -- common.v1.Scope
    user_id         text COLLATE "C",              -- the only user; null: all
    secret_hash     bytea NOT NULL,
    previous_hash   bytea,                         -- before the last rotation
    previous_until  timestamptz,
    create_time     timestamptz NOT NULL,
    expire_time     timestamptz,
    revoke_time     timestamptz,
    last_use_time   timestamptz,                   -- to the minute
    rate_per_second double precision,              -- null: no limit
    rate_burst      integer,
    tenant          text COLLATE "C"               -- whose users alone it knows; null: of none, it knows all
);
CREATE INDEX keys_by_tenant ON keys (tenant, key_id) WHERE tenant IS NOT NULL;
CREATE INDEX keys_by_user ON keys (user_id, key_id) WHERE user_id IS NOT NULL;

-- What was done by hand (RULES 9.4): written in the transaction that decides it, never changed.
CREATE TABLE admin_operations (
    sequence    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    create_time timestamptz NOT NULL,
    method      text COLLATE "C" NOT NULL,
    subject     text COLLATE "C" NOT NULL,      -- what it was done to: kind/key
    actor       text NOT NULL,
    peer        text NOT NULL,
    reason      text NOT NULL,
    fields      bytea[] NOT NULL                -- common.v1.FieldChange: old and new
);
CREATE INDEX admin_operations_by_subject ON admin_operations (subject, sequence);

-- What an examination of the ledger found that services lack (laurel doctor), in the order in which it is to be sent again.
CREATE TABLE findings (
    entry_id   uuid NOT NULL,           -- of act 1, the write
    act        smallint NOT NULL,       -- 1 write definitions, 2 apply, 3 undo
    services   text[] COLLATE "C" NOT NULL,
    user_id    text COLLATE "C" NOT NULL,
    due_time   timestamptz NOT NULL,    -- when it was done first
    sequence   bigint NOT NULL,         -- among what one user did at that instant
    state      smallint NOT NULL DEFAULT 0, -- 0 open, 1 healed, 2 failed
    cause      text,                    -- why it failed
    PRIMARY KEY (entry_id, act)
);
CREATE INDEX findings_due ON findings (due_time, sequence, entry_id, act) WHERE state = 0;
CREATE INDEX findings_by_user ON findings (user_id);

CREATE TABLE examination (
    singleton        boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    stage            smallint NOT NULL,      -- orchestrator.v1.ExaminationStage
    start_time       timestamptz NOT NULL,
    after_entry_id   uuid NOT NULL,          -- how far the ledger was looked at
    examined_count   bigint NOT NULL,
    unfinished_count bigint NOT NULL,
    unknown_counts   bigint[] NOT NULL,      -- by service, in the order of the steps
    maintained_day   date,                   -- up to which services were brought while they are healed
    after_user_id    text COLLATE "C"        -- up to whom versions were raised; null before
);

-- Domain events (RULES 8), written by the statements that complete and settle (shared/postgres/feed.py, docs/adr/0014). A
-- row for each entry.
CREATE TABLE domain_events (
    life        integer NOT NULL DEFAULT 1,  -- another one after the database was restored elsewhere
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    sequence    bigint NOT NULL,         -- place among those that were completed together
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    entry       bytea NOT NULL,          -- laurel.ledger.v1.Entry; of an undoing: the correction
    effects     bytea NOT NULL,          -- laurel.ledger.v1.Effects
    PRIMARY KEY (life, xid, sequence)
);

CREATE TABLE feed_lives (
    feed text COLLATE "C" PRIMARY KEY,   -- the table
    life integer NOT NULL                -- its column's default
);

-- What events contribute to metrics by local date, followed behind the replies (docs/adr/0025).
CREATE TABLE metric_days (
    user_id       text COLLATE "C" NOT NULL,
    metric        text COLLATE "C" NOT NULL,
    local_date    date NOT NULL,
    change_micros bigint NOT NULL,
    event_count   bigint NOT NULL,
    PRIMARY KEY (user_id, metric, local_date)
) WITH (fillfactor = 80);
CREATE INDEX metric_days_by_date ON metric_days (metric, local_date);

-- Up to which version of its total a user's metric is in there, and when that was received.
CREATE TABLE metric_rollups (
    user_id      text COLLATE "C" NOT NULL,
    metric       text COLLATE "C" NOT NULL,
    version      bigint NOT NULL,
    receive_time timestamptz NOT NULL,
    PRIMARY KEY (user_id, metric)
) WITH (fillfactor = 80);

-- The same over all users.
CREATE TABLE metric_day_totals (
    metric        text COLLATE "C" NOT NULL,
    local_date    date NOT NULL,
    change_micros numeric NOT NULL,      -- more users than one fit a bigint
    event_count   bigint NOT NULL,
    user_count    bigint NOT NULL,       -- who have events on the date
    PRIMARY KEY (metric, local_date)
) WITH (fillfactor = 80);

-- How far the totals are looked through for what nobody told of: imports, and all there was before this migration.
CREATE TABLE metric_sweep (
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    round         bigint NOT NULL,       -- grows each time that it is asked for
    after_user_id text COLLATE "C",      -- null: to the end
    after_metric  text COLLATE "C"
);

CREATE FUNCTION require_rows(actual bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION 'state moved' USING ERRCODE = '40001';
    END IF;
END $$;

-- What is written goes in as arrays of these, one array a table: a tuple of the service is a row. They are not the tables'
-- own row types, and are never altered: a change of one is another type beside it (docs/adr/0012).
CREATE TYPE entry_row AS (
    entry_id     uuid,
    kind         text,
    user_id      text,
    metric       text,
    value_micros bigint,
    unique_value text,
    position     bigint,
    occur_time   timestamptz,
    receive_time timestamptz,
    digest       bytea,
    request      bytea,
    entry        bytea,
    origin       smallint,
    actor        text,
    reason       text,
    other_user_ids text[]
);
CREATE TYPE user_row_2 AS (
    user_id     text,
    guard       bigint,
    version     bigint,
    entry_count bigint,
    said        jsonb,
    create_time timestamptz
);
CREATE TYPE user_row_3 AS (
    user_id     text,
    guard       bigint,
    version     bigint,
    entry_count bigint,
    said        jsonb,
    create_time timestamptz,
    standing    smallint
);
CREATE TYPE user_row_4 AS (
    user_id     text,
    guard       bigint,
    version     bigint,
    entry_count bigint,
    said        jsonb,
    create_time timestamptz,
    standing    smallint,
    merged_into text
);
CREATE TYPE user_row_5 AS (
    user_id     text,
    guard       bigint,
    version     bigint,
    entry_count bigint,
    said        jsonb,
    create_time timestamptz,
    standing    smallint,
    merged_into text,
    life        bigint
);
CREATE TYPE total_row AS (
    user_id      text,
    metric       text,
    total_micros bigint,
    peak_micros  bigint,
    gross_micros bigint,
    event_count  bigint,
    version      bigint,
    newest_time  timestamptz,
    newest_id    uuid
);
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
CREATE TYPE entry_key_row AS (
    key_id   uuid,
    entry_id uuid
);
CREATE TYPE domain_event_row AS (
    entry_id uuid,
    sequence bigint,
    entry    bytea,
    effects  bytea
);
CREATE TYPE metric_rollup_row AS (
    user_id        text,
    metric         text,
    version_before bigint,
    version        bigint,
    receive_time   timestamptz
);
CREATE TYPE metric_day_row AS (
    user_id       text,
    metric        text,
    local_date    date,
    change_micros bigint,
    event_count   bigint
);
CREATE TYPE metric_day_total_row AS (
    metric        text,
    local_date    date,
    change_micros numeric,
    event_count   bigint,
    user_count    bigint
);
