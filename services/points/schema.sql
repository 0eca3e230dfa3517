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
    entry_count    bigint NOT NULL,    -- entries ever applied; the newest one's position
    award_count    bigint NOT NULL,    -- rows of the user's ledger; the newest one's sequence
    first_position bigint              -- of the first live entry that does not follow from others
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
    position       bigint,             -- place in the order of arrival
    contribution_micros bigint,        -- to its metric's total, as far as it is known now
    triggers       text[] COLLATE "C", -- the triggers that it matched, as system/trigger: all that count its metric, and of
                                       -- those for new users the ones with filters
    contribution_version bigint,       -- of the total that the contribution was told with; NULL where it cannot change
    follows        boolean,            -- from other entries
    terms          bigint,             -- the version of the definitions that it was judged by
    award_count    bigint,             -- of the user before it: its awards are the rows after that
    boosts         text[] COLLATE "C"  -- those that apply to what belongs to it, as system/boost
) PARTITION BY RANGE (entry_id);

CREATE INDEX request_log_facts ON request_log (user_id, occur_time, position) WHERE position IS NOT NULL;
CREATE TABLE request_log_default PARTITION OF request_log DEFAULT;

CREATE FUNCTION require_rows(actual bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION 'state moved' USING ERRCODE = '40001';
    END IF;
END
$$;

-- The definitions of each version by which a fact was judged.
CREATE TABLE terms (
    version bigint NOT NULL,
    key     text COLLATE "C" NOT NULL,
    body    bytea NOT NULL,            -- a serialized laurel.points.v1.PointsSystem
    PRIMARY KEY (version, key)
);

-- What entries contribute that have not come yet.
CREATE TABLE revisions (
    user_id             text COLLATE "C" NOT NULL,
    entry_id            uuid PRIMARY KEY,
    version             bigint NOT NULL,
    contribution_micros bigint NOT NULL
);

-- The ledger: only ever added to. The truth about points.
CREATE TABLE awards (
    user_id           text COLLATE "C" NOT NULL,
    sequence          bigint NOT NULL,    -- place in the user's ledger, over all systems, from 1
    award_id          uuid NOT NULL,
    points_system     text COLLATE "C" NOT NULL,
    trigger           text COLLATE "C" NOT NULL,
    times             bigint NOT NULL,    -- how often the trigger awards in this row; negative where it is taken back
    base_amount       bigint NOT NULL,
    amount            bigint NOT NULL,
    entry_id          uuid NOT NULL,      -- that it belongs to
    occur_time        timestamptz NOT NULL,
    local_date        date NOT NULL,      -- of that entry
    completion_id     uuid,               -- of an achievement trigger
    reversed_award_id uuid,               -- the award that a refold changes
    position          bigint NOT NULL,    -- place in the order of arrival at which it counts
    refolded          boolean NOT NULL,   -- whether a refold wrote it
    cause_entry_id    uuid NOT NULL,      -- whose arrival or undoing wrote it
    period            date,               -- of a streak trigger: the first date of the period
    multiplied_amount bigint,             -- base_amount multiplied, before any limit; NULL, as the next three: by nothing
    multiplier        double precision,   -- of the award with this row
    boosts            text[] COLLATE "C", -- that made the multiplier
    level             text COLLATE "C",   -- that made it, too
    expire_date       date,               -- the first local date on which what it left is gone; NULL: never
    PRIMARY KEY (user_id, sequence)
);

CREATE INDEX awards_completion ON awards (user_id, completion_id) WHERE completion_id IS NOT NULL;
CREATE INDEX awards_refolded ON awards (user_id, position) WHERE refolded;
CREATE INDEX awards_period ON awards (user_id, points_system, trigger) WHERE period IS NOT NULL;

-- Derived from the ledger.
CREATE TABLE balances (
    user_id       text COLLATE "C" NOT NULL,
    points_system text COLLATE "C" NOT NULL,
    balance       bigint NOT NULL,
    lifetime      bigint NOT NULL,
    level         text COLLATE "C" NOT NULL,  -- as of the last change; empty for none
    version       bigint NOT NULL,
    reach_time    timestamptz,                -- NULL without a live award
    cut_position  bigint NOT NULL,            -- the newest fact of which a limit cut something, or would
    PRIMARY KEY (user_id, points_system)
) WITH (fillfactor = 85);

CREATE INDEX balances_points_system ON balances (points_system);

-- By which levels the users of each system stand at those that are stored; and how far they have been looked at since these
-- changed.
CREATE TABLE relevellings (
    points_system text COLLATE "C" PRIMARY KEY,
    levels        text NOT NULL,           -- what they look at, and thresholds, as the service writes them
    after_user    text COLLATE "C"         -- the last one who was looked at, '' for none yet; NULL: all were
);

-- Which boosts were told to have begun, and to have ended.
CREATE TABLE told_boosts (
    points_system text COLLATE "C" NOT NULL,
    boost         text COLLATE "C" NOT NULL,
    finished      boolean NOT NULL,
    PRIMARY KEY (points_system, boost)
);

-- How many users were at each level of a system at the end of a UTC date: counted by the first pass after it.
CREATE TABLE level_days (
    points_system text COLLATE "C" NOT NULL,
    tenant        text COLLATE "C" NOT NULL,    -- '': all users, also those of tenants
    day           date NOT NULL,
    levels        text[] COLLATE "C" NOT NULL,  -- their keys as they were then, by ascending threshold
    thresholds    bigint[] NOT NULL,            -- of each
    user_counts   bigint[] NOT NULL,            -- of those below the first, and then of each
    PRIMARY KEY (points_system, tenant, day)
);

-- How far triggers have counted: the fold of all facts.
CREATE TABLE trigger_states (
    user_id            text COLLATE "C" NOT NULL,
    points_system      text COLLATE "C" NOT NULL,
    trigger            text COLLATE "C" NOT NULL,
    kind               smallint NOT NULL,     -- 1 metric, 2 streak, 3 time, 4 what is held
    granted_count      bigint NOT NULL,
    accumulated_micros bigint NOT NULL,
    high_micros        bigint NOT NULL,
    every_micros       bigint NOT NULL,
    due_count          bigint NOT NULL,
    irregular          boolean NOT NULL,      -- sums do not tell how high the sum once was
    newest_time        timestamptz,           -- of the events that it counted
    late_position      bigint NOT NULL,       -- the newest arrival that was not the newest event, while it was fractional
    fractional         boolean NOT NULL,      -- it counted something that is no multiple of X
    next_time          timestamptz,           -- by time: when it is due next; NULL: never
    zone               text COLLATE "C",      -- in which days begin
    day                date,                  -- that begins then, or that comes round every year
    periods            jsonb,                 -- of a streak: due and not granted, granted and not due; what is held; NULL: none
    PRIMARY KEY (user_id, points_system, trigger)
) WITH (fillfactor = 85);

CREATE INDEX trigger_states_points_system ON trigger_states (points_system);
CREATE INDEX trigger_states_due ON trigger_states (next_time) WHERE next_time IS NOT NULL;

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
CREATE TYPE user_row_2 AS (
    user_id        text,
    version        bigint,
    entry_count    bigint,
    award_count    bigint,
    first_position bigint
);
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
CREATE TYPE log_row_3 AS (
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
    award_count          bigint,
    boosts               text[]
);
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
CREATE TYPE award_row_3 AS (
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
    period            date,
    multiplied_amount bigint,
    multiplier        double precision,
    boosts            text[],
    level             text
);
CREATE TYPE award_row_4 AS (
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
    period            date,
    multiplied_amount bigint,
    multiplier        double precision,
    boosts            text[],
    level             text,
    expire_date       date
);
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
CREATE TYPE trigger_state_row_3 AS (
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
    fractional         boolean,
    newest_time        timestamptz,
    late_position      bigint
);
CREATE TYPE trigger_state_row_4 AS (
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
    fractional         boolean,
    newest_time        timestamptz,
    late_position      bigint,
    next_time          timestamptz,
    zone               text,
    day                date
);
CREATE TYPE trigger_state_row_5 AS (
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
    fractional         boolean,
    newest_time        timestamptz,
    late_position      bigint,
    next_time          timestamptz,
    zone               text,
    day                date,
    periods            jsonb
);
CREATE TYPE completion_row AS (
    user_id       text,
    completion_id uuid,
    net_count     bigint
);
CREATE TYPE level_day_row AS (
    points_system text,
    tenant        text,
    day           date,
    levels        text[],
    thresholds    bigint[],
    user_counts   bigint[]
);
