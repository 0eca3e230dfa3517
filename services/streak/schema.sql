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

-- What definitions were: a closed period stays as it was judged.
CREATE TABLE definition_history (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    body        bytea,                  -- null: there was none any more
    change_time timestamptz NOT NULL
);

-- How far amnesties have come: what was closed without them is judged anew.
CREATE TABLE amnesty_passes (
    number          bigint PRIMARY KEY,             -- of the change in definition_history
    streak          text COLLATE "C" NOT NULL,      -- up to which period it has come
    start_date      date NOT NULL,
    user_id         text COLLATE "C" NOT NULL,
    judged_count    bigint NOT NULL,
    saved_count     bigint NOT NULL,
    refunded_count  bigint NOT NULL,
    finish_time     timestamptz
);

-- How far the backfills of streaks have come: events of before the streak was defined are counted for it, user by user.
CREATE TABLE streak_backfills (
    streak       text COLLATE "C" PRIMARY KEY,
    begin_time   timestamptz NOT NULL,          -- when the streak was defined
    user_id      text COLLATE "C" NOT NULL,     -- up to which user it has come
    looked_count bigint NOT NULL,               -- users
    found_count  bigint NOT NULL,               -- of those with events that count
    finish_time  timestamptz
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
    user_id      text COLLATE "C" PRIMARY KEY,
    version      bigint NOT NULL,       -- grows with every change of the user's state; guards against lost updates
    time_zone    text NOT NULL,         -- the user's zone, on whose day all streaks are
    user_version bigint NOT NULL,       -- of the newest snapshot of the user that was heeded
    move_time    timestamptz            -- when the user came into it; null where nothing is known of any other
);

CREATE TABLE request_log (
    entry_id       uuid PRIMARY KEY,
    user_id        text COLLATE "C" NOT NULL,
    digest         bytea NOT NULL,
    state          smallint NOT NULL,
    outcome        bytea,
    revert_outcome bytea,
    apply_time     timestamptz NOT NULL,
    -- The fact that the entry is. A tombstone has none, and neither has a correction; a change of a user has no metric.
    metric         text COLLATE "C",
    contribution_micros bigint,         -- to the metric's total
    occur_time     timestamptz,
    time_zone      text,
    streaks        text[] COLLATE "C",  -- the streaks that it counts for, as decided when it came
    contribution_version bigint,        -- of the total as of which it contributes that; null where that never changes
    names_zone     boolean              -- whether it says time_zone itself; null: of before that was kept, as though it did
) PARTITION BY RANGE (entry_id);
-- The live facts of a user.
CREATE INDEX request_log_facts ON request_log (user_id, occur_time) WHERE state = 1 AND streaks IS NOT NULL;
CREATE TABLE request_log_default PARTITION OF request_log DEFAULT;

CREATE FUNCTION require_rows(actual bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION 'state moved' USING ERRCODE = '40001';
    END IF;
END
$$;

-- Where users were who are known in more than one zone: from which instant on in which. Follows from their live entries that
-- name a zone.
CREATE TABLE zone_changes (
    user_id    text COLLATE "C" NOT NULL,
    occur_time timestamptz NOT NULL,
    entry_id   uuid NOT NULL,           -- that said so; zero where none did
    time_zone  text NOT NULL,
    PRIMARY KEY (user_id, occur_time, entry_id)
);

-- What events contribute, where that was told before they came.
CREATE TABLE contributions (
    entry_id            uuid PRIMARY KEY,
    user_id             text COLLATE "C" NOT NULL,
    contribution_micros bigint NOT NULL,
    version             bigint NOT NULL -- of the total
);

-- One row for each streak that a user ever had a fact of: what others follow, and what the fold goes on from.
CREATE TABLE streak_states (
    user_id         text COLLATE "C" NOT NULL,
    streak          text COLLATE "C" NOT NULL,
    version         bigint NOT NULL,        -- grows with every change that others follow, for ever
    length          integer NOT NULL,
    longest         integer NOT NULL,
    reach_time      timestamptz,            -- when the present length was reached; null where there never was one
    fingerprint     bigint NOT NULL,        -- of the definition that it was folded under
    closed_time     timestamptz NOT NULL,   -- up to when periods are closed
    next_close_time timestamptz,            -- the next instant at which a period closes with a result
    state           json,                   -- see encoding.py; null where every fact was undone
    by_hand         json,                   -- freezes given, pauses, resets, restores; null where nothing was done by hand
    PRIMARY KEY (user_id, streak)
) WITH (fillfactor = 80);
CREATE INDEX streak_states_due ON streak_states (next_close_time, user_id, streak) WHERE next_close_time IS NOT NULL;
CREATE INDEX streak_states_longest ON streak_states (streak, longest DESC, user_id) WHERE longest > 0;
CREATE INDEX streak_states_in_use ON streak_states (streak);

-- Recorded periods: the result of the fold as of streak_states.closed_time.
CREATE TABLE periods (
    user_id     text COLLATE "C" NOT NULL,
    streak      text COLLATE "C" NOT NULL,
    start_date  date NOT NULL,
    end_date    date NOT NULL,
    status      smallint NOT NULL,          -- as laurel.streak.v1.PeriodStatus
    length      integer NOT NULL,           -- of the streak, after the period
    settle_time timestamptz NOT NULL,       -- when it qualified, or the local midnight at which it closed
    entry_id    uuid,                       -- with which it qualified; null where it did not
    local_date  date,                       -- of settle_time, in that event's zone; null where it did not qualify
    PRIMARY KEY (user_id, streak, start_date)
);
-- At which something was at stake: frozen, broken, and what came of that. In the order in which an amnesty goes over them.
CREATE INDEX periods_at_stake ON periods (streak, start_date, user_id) WHERE status >= 6;
CREATE INDEX periods_paused ON periods (streak, start_date) WHERE status = 3;

-- Freezes granted and consumed; the balance is the sum of the amounts.
CREATE TABLE freeze_ledger (
    user_id        text COLLATE "C" NOT NULL,
    streak         text COLLATE "C" NOT NULL,
    effective_date date NOT NULL,
    reason         smallint NOT NULL,       -- as laurel.streak.v1.FreezeReason; the order within a date
    amount         integer NOT NULL,
    about_date     date NOT NULL,           -- the last date of the period that it is about; of a grant its own
    PRIMARY KEY (user_id, streak, effective_date, reason, about_date)
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
CREATE TYPE user_row_2 AS (
    user_id      text,
    version      bigint,
    time_zone    text,
    user_version bigint,
    move_time    timestamptz
);
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
CREATE TYPE log_row_3 AS (
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
    streaks      text[],
    names_zone   boolean
);
CREATE TYPE streak_state_row AS (
    user_id         text,
    streak          text,
    version         bigint,
    length          integer,
    longest         integer,
    reach_time      timestamptz,
    fingerprint     bigint,
    closed_time     timestamptz,
    next_close_time timestamptz,
    state           json
);
CREATE TYPE streak_state_row_2 AS (
    user_id         text,
    streak          text,
    version         bigint,
    length          integer,
    longest         integer,
    reach_time      timestamptz,
    fingerprint     bigint,
    closed_time     timestamptz,
    next_close_time timestamptz,
    state           json,
    by_hand         json
);
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
CREATE TYPE period_key AS (
    user_id    text,
    streak     text,
    start_date date
);
CREATE TYPE freeze_ledger_row_2 AS (
    user_id        text,
    streak         text,
    effective_date date,
    reason         smallint,
    amount         integer,
    about_date     date
);
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
