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
    user_id         text COLLATE "C" PRIMARY KEY,
    version         bigint NOT NULL,       -- grows by one with each entry; guards against lost updates
    profile_version bigint NOT NULL,       -- of the newest snapshot that was seen
    name            text NOT NULL,
    attributes      text NOT NULL,         -- a JSON object; not jsonb, which cannot hold every string
    exclusions      text NOT NULL DEFAULT '{}'  -- by board, '' for all: a JSON object
);

CREATE TABLE request_log (
    entry_id       uuid PRIMARY KEY,
    user_id        text COLLATE "C" NOT NULL,
    digest         bytea NOT NULL,
    state          smallint NOT NULL,
    outcome        bytea,                  -- NULL while the entry is stored but not projected yet
    revert_outcome bytea,                  -- empty while the reversal is stored but not projected yet
    apply_time     timestamptz NOT NULL,
    draft          text,                   -- what remains to be projected, until it is
    -- The fact of a metric event. A tombstone has none.
    metric         text COLLATE "C",
    value_micros   bigint,
    occur_time     timestamptz,
    local_date     date,
    -- What the event contributes, where that is not its value, as of the version with which it was told.
    contribution_micros  bigint,
    contribution_version bigint,
    local_minute         smallint          -- of the user's day, from 0; NULL for events from before it was kept
) PARTITION BY RANGE (entry_id);
CREATE INDEX request_log_facts ON request_log (user_id, metric, local_date)
    WHERE metric IS NOT NULL AND state = 1;
CREATE TABLE request_log_default PARTITION OF request_log DEFAULT WITH (fillfactor = 50);  -- outcomes replace drafts in place

CREATE FUNCTION require_rows(actual bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION 'state moved' USING ERRCODE = '40001';
    END IF;
END
$$;

-- Points, kept for boards with runs by the entry and the local date that they belong to. What was taken back is 0.
CREATE TABLE earnings (
    user_id       text COLLATE "C" NOT NULL,
    points_system text COLLATE "C" NOT NULL,
    local_date    date NOT NULL,
    entry_id      uuid NOT NULL,
    amount        bigint NOT NULL,
    reach_time    timestamptz NOT NULL,
    PRIMARY KEY (user_id, points_system, local_date, entry_id)
);

-- Lengths of streaks, kept for boards with runs by the period at which they change.
CREATE TABLE lengths (
    user_id    text COLLATE "C" NOT NULL,
    streak     text COLLATE "C" NOT NULL,
    start_date date NOT NULL,
    end_date   date NOT NULL,
    length     integer,                    -- after the period; NULL where the length does not change at it any more
    reach_time timestamptz,                -- where it has qualified
    version    bigint NOT NULL,            -- with which it was told: the newest holds
    PRIMARY KEY (user_id, streak, start_date)
);

-- What an event contributes, told before the event itself.
CREATE TABLE early_revisions (
    entry_id            uuid PRIMARY KEY,
    user_id             text COLLATE "C" NOT NULL,
    contribution_micros bigint NOT NULL,
    version             bigint NOT NULL
);

CREATE TABLE runs (
    board         text COLLATE "C" NOT NULL,
    start_date    date NOT NULL,           -- -infinity for a perpetual run without a start
    end_date      date NOT NULL,           -- infinity for a run without an end
    finalize_time timestamptz,
    finalized     boolean NOT NULL DEFAULT false,
    dropped       boolean NOT NULL DEFAULT false,  -- whether its sorted sets are gone
    beyond_count  bigint NOT NULL DEFAULT 0,       -- set when the run is finalised: members for whom there was no segment left
    expired       boolean NOT NULL DEFAULT false,  -- whether its members are not kept any more
    cleanings     integer NOT NULL DEFAULT 0,      -- how often segments were removed that everybody had left
    PRIMARY KEY (board, start_date)
);
CREATE INDEX runs_due ON runs (finalize_time) WHERE NOT finalized;
CREATE INDEX runs_to_expire ON runs (finalize_time) WHERE dropped AND NOT expired;
CREATE INDEX runs_to_drop ON runs (board, start_date) WHERE finalized AND NOT dropped;

-- Runs of which it has been told that they began.
CREATE TABLE run_starts (
    board     text COLLATE "C" NOT NULL,
    run_start date NOT NULL,
    PRIMARY KEY (board, run_start)
);

-- Scores in runs that are not finalised: the truth, of which the sorted sets are a projection.
CREATE TABLE scores (
    user_id        text COLLATE "C" NOT NULL,
    board          text COLLATE "C" NOT NULL,
    run_start      date NOT NULL,
    segment        text COLLATE "C" NOT NULL,  -- '' for a user who is in the whole board only
    score          bigint,                 -- NULL for who is not, or no longer, a member
    order_score    bigint,                 -- turned so that the smallest is first; NULL for who is not ranked
    reach_time     timestamptz,
    entry_id       uuid,
    source_version bigint NOT NULL,        -- of the newest absolute value that was seen
    version        bigint NOT NULL,        -- of the user, when the row was written
    beyond         boolean NOT NULL DEFAULT false,  -- in the whole board only, because it has as many segments as it may
    PRIMARY KEY (user_id, board, run_start)
);
CREATE INDEX scores_order ON scores (board, run_start, order_score, reach_time, user_id);
CREATE INDEX scores_segment_order ON scores (board, run_start, segment, order_score, reach_time, user_id)
    WHERE segment <> '';
CREATE INDEX scores_beyond ON scores (board, run_start) WHERE beyond;

-- Every segment that was ever seen in a run, the whole board too.
CREATE TABLE segments (
    board        text COLLATE "C" NOT NULL,
    run_start    date NOT NULL,
    segment      text COLLATE "C" NOT NULL,
    member_count bigint,                   -- set when the run is finalised
    PRIMARY KEY (board, run_start, segment)
);

-- Finalised runs.
CREATE TABLE archive (
    board      text COLLATE "C" NOT NULL,
    run_start  date NOT NULL,
    segment    text COLLATE "C" NOT NULL,
    ordinal    bigint NOT NULL,            -- from 1 among the segment's members
    rank       bigint NOT NULL,            -- as the board numbers ties; 0 beyond the participant limit
    user_id    text COLLATE "C" NOT NULL,
    score      bigint NOT NULL,
    reach_time timestamptz NOT NULL,
    PRIMARY KEY (board, run_start, segment, ordinal)
);
CREATE INDEX archive_user ON archive (user_id, board, run_start);

-- One row for each run that was archived with something to be done after it: how far that has come.
CREATE TABLE endings (
    board        text COLLATE "C" NOT NULL,
    run_start    date NOT NULL,
    end_time     timestamptz NOT NULL,     -- when the run was final
    prizes       text NOT NULL,            -- JSON by field names, as they were defined then
    history      boolean NOT NULL,         -- whether an import of history archived it
    last_segment text COLLATE "C" NOT NULL DEFAULT '',
    last_ordinal bigint NOT NULL DEFAULT 0,
    done         boolean NOT NULL DEFAULT false,
    league       text,                     -- JSON by field names, as it was defined then; NULL for no league
    PRIMARY KEY (board, run_start)
);
CREATE INDEX endings_under_way ON endings (end_time, board, run_start) WHERE NOT done;

CREATE TABLE prizes (
    board     text COLLATE "C" NOT NULL,
    run_start date NOT NULL,
    segment   text COLLATE "C" NOT NULL,
    ordinal   bigint NOT NULL,
    prize     text COLLATE "C" NOT NULL,
    user_id   text COLLATE "C" NOT NULL,
    rank      bigint NOT NULL,
    entry_id  uuid NOT NULL,               -- of the ledger
    PRIMARY KEY (board, run_start, segment, ordinal, prize)
);
CREATE INDEX prizes_user ON prizes (user_id, board, run_start);

-- Leagues: who sits in which cohort of a run, and in which division everybody is.
CREATE TABLE seats (
    board         text COLLATE "C" NOT NULL,
    run_start     date NOT NULL,
    user_id       text COLLATE "C" NOT NULL,
    division      integer,                 -- from 0, the lowest; NULL while the user waits for the end of the run before
    cohort        integer,                 -- from 1 in its division; NULL as long
    number        bigint GENERATED BY DEFAULT AS IDENTITY,  -- who was active first
    is_projected  boolean NOT NULL,        -- whether the sorted set of the cohort has heard of who had to wait
    outcome       integer,                 -- 1 promoted, 2 stays, 3 demoted; NULL before the run is archived
    utc_hour      integer,                 -- of the user's zone when active first; NULL: not asked for
    PRIMARY KEY (board, run_start, user_id)
);
CREATE INDEX seats_waiting ON seats (board, run_start, number) WHERE cohort IS NULL OR NOT is_projected;

CREATE TABLE cohorts (
    board        text COLLATE "C" NOT NULL,
    run_start    date NOT NULL,
    division     integer NOT NULL,
    cohort       integer NOT NULL,
    member_count integer NOT NULL,
    band         integer,                  -- of zones, of the first who came; NULL: open to whoever comes
    is_filling   boolean NOT NULL DEFAULT false,  -- of a league with bands: has room
    PRIMARY KEY (board, run_start, division, cohort)
);
CREATE INDEX cohorts_filling ON cohorts (board, run_start, division) WHERE is_filling;

-- Who has no row is in the lowest division.
CREATE TABLE divisions (
    board     text COLLATE "C" NOT NULL,
    user_id   text COLLATE "C" NOT NULL,
    division  integer NOT NULL,
    run_start date NOT NULL,               -- the run that was looked at last
    PRIMARY KEY (board, user_id)
);
CREATE INDEX divisions_inactive ON divisions (board, run_start) WHERE division > 0;

-- Ranks at the end of each UTC date, for boards that keep them.
CREATE TABLE daily_ranks (
    board     text COLLATE "C" NOT NULL,
    run_start date NOT NULL,
    segment   text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    user_id   text COLLATE "C" NOT NULL,
    rank      bigint NOT NULL,
    score     bigint NOT NULL,
    PRIMARY KEY (board, run_start, segment, day, user_id)
);
CREATE INDEX daily_ranks_user ON daily_ranks (user_id, board, segment, day);

-- The dates that were kept.
CREATE TABLE kept_days (
    board text COLLATE "C" NOT NULL,
    day   date NOT NULL,
    PRIMARY KEY (board, day)
);

-- How the acting user's rank changed, a row per entry; and, looked at now and then, who was overtaken.
CREATE TABLE rank_events (
    user_id       text COLLATE "C" NOT NULL,
    change_time   timestamptz NOT NULL,
    entry_id      uuid NOT NULL,
    board         text COLLATE "C" NOT NULL,
    run_start     date NOT NULL,
    segment       text COLLATE "C" NOT NULL,
    previous_rank bigint NOT NULL,
    rank          bigint NOT NULL,
    score         bigint NOT NULL,
    passed        boolean NOT NULL DEFAULT false,  -- by others; then the entry is none of the ledger
    others        text,                            -- JSON: what else the entry changed (store/history.py); NULL: nothing
    PRIMARY KEY (user_id, change_time, entry_id, board, run_start, segment)
) PARTITION BY RANGE (entry_id);
CREATE TABLE rank_events_default PARTITION OF rank_events DEFAULT;

-- The first members of segments as they were when it was looked last, to find who was overtaken since.
CREATE TABLE tracked_tops (
    board     text COLLATE "C" NOT NULL,
    run_start date NOT NULL,
    segment   text COLLATE "C" NOT NULL,
    look_time timestamptz NOT NULL,
    members   text,                        -- JSON by user: rank and score; NULL before the first look
    PRIMARY KEY (board, run_start, segment)
);

-- What the sorted sets say of themselves when they are complete; NULL before they were first built.
CREATE TABLE projection (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    marker    text
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
    user_id         text,
    loaded_version  bigint,  -- that the decision was made on
    version         bigint,
    profile_version bigint,
    name            text,
    attributes      text
);
CREATE TYPE user_row_2 AS (
    user_id         text,
    loaded_version  bigint,  -- that the decision was made on
    version         bigint,
    profile_version bigint,
    name            text,
    attributes      text,
    exclusions      text
);
CREATE TYPE log_row_2 AS (
    entry_id     uuid,
    user_id      text,
    digest       bytea,
    state        smallint,
    outcome      bytea,
    apply_time   timestamptz,
    draft        text,
    metric       text,
    value_micros bigint,
    occur_time   timestamptz,
    local_date   date,
    contribution_micros  bigint,
    contribution_version bigint
);
CREATE TYPE log_row_3 AS (
    entry_id     uuid,
    user_id      text,
    digest       bytea,
    state        smallint,
    outcome      bytea,
    apply_time   timestamptz,
    draft        text,
    metric       text,
    value_micros bigint,
    occur_time   timestamptz,
    local_date   date,
    contribution_micros  bigint,
    contribution_version bigint,
    local_minute         smallint
);
CREATE TYPE run_row AS (
    board         text,
    start_date    date,
    end_date      date,
    finalize_time timestamptz
);
CREATE TYPE run_key AS (
    board      text,
    start_date date
);
CREATE TYPE run_key_2 AS (
    board      text,
    start_date date,
    cleanings  integer
);
CREATE TYPE score_row AS (
    user_id        text,
    board          text,
    run_start      date,
    segment        text,
    score          bigint,
    order_score    bigint,
    reach_time     timestamptz,
    entry_id       uuid,
    source_version bigint,
    version        bigint
);
CREATE TYPE score_row_2 AS (
    user_id        text,
    board          text,
    run_start      date,
    segment        text,
    score          bigint,
    order_score    bigint,
    reach_time     timestamptz,
    entry_id       uuid,
    source_version bigint,
    version        bigint,
    beyond         boolean
);
CREATE TYPE segment_row AS (
    board     text,
    run_start date,
    segment   text
);
CREATE TYPE earning_row AS (
    user_id       text,
    points_system text,
    local_date    date,
    entry_id      uuid,
    amount        bigint,
    reach_time    timestamptz
);
CREATE TYPE length_row AS (
    user_id    text,
    streak     text,
    start_date date,
    end_date   date,
    length     integer,
    reach_time timestamptz,
    version    bigint
);
CREATE TYPE early_revision_row AS (
    entry_id            uuid,
    user_id             text,
    contribution_micros bigint,
    version             bigint
);
CREATE TYPE prize_row AS (
    board     text,
    run_start date,
    segment   text,
    ordinal   bigint,
    prize     text,
    user_id   text,
    rank      bigint,
    entry_id  uuid
);
CREATE TYPE seat_row AS (
    board        text,
    run_start    date,
    user_id      text,
    division     integer,
    cohort       integer,
    is_projected boolean
);
CREATE TYPE outcome_row AS (
    board     text,
    run_start date,
    user_id   text,
    outcome   integer,
    division  integer
);
CREATE TYPE rank_event_row AS (
    user_id       text,
    change_time   timestamptz,
    entry_id      uuid,
    board         text,
    run_start     date,
    segment       text,
    previous_rank bigint,
    rank          bigint,
    score         bigint
);
CREATE TYPE rank_event_row_2 AS (
    user_id       text,
    change_time   timestamptz,
    entry_id      uuid,
    board         text,
    run_start     date,
    segment       text,
    previous_rank bigint,
    rank          bigint,
    score         bigint,
    others        text
);
CREATE TYPE seat_row_2 AS (
    board        text,
    run_start    date,
    user_id      text,
    division     integer,
    cohort       integer,
    is_projected boolean,
    utc_hour     integer
);
CREATE TYPE cohort_row AS (
    board        text,
    run_start    date,
    division     integer,
    cohort       integer,
    member_count integer,
    band         integer
);
