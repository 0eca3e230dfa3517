-- What is written goes in as arrays of these, one array a table: a tuple of the service is a row. They are not the tables'
-- own row types, and are never altered: a change of one is another type beside it (docs/adr/0012).
CREATE TYPE user_row AS (
    user_id text,
    version bigint
);
CREATE TYPE log_row AS (
    entry_id     uuid,
    user_id      text,
    digest       bytea,
    state        smallint,
    outcome      bytea,
    apply_time   timestamptz,
    metric       text,
    value_micros bigint,
    occur_time   timestamptz,
    time_zone    text,
    streaks      text[]
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
CREATE TYPE period_row AS (
    user_id     text,
    streak      text,
    start_date  date,
    end_date    date,
    status      smallint,
    length      integer,
    settle_time timestamptz
);
CREATE TYPE period_key AS (
    user_id    text,
    streak     text,
    start_date date
);
CREATE TYPE freeze_ledger_row AS (
    user_id        text,
    streak         text,
    effective_date date,
    reason         smallint,
    amount         integer
);
CREATE TYPE freeze_ledger_key AS (
    user_id        text,
    streak         text,
    effective_date date,
    reason         smallint
);
CREATE TYPE change_row AS (
    entry_id   uuid,
    user_id    text,
    streak     text,
    time_zone  text,
    occur_time timestamptz,
    change     bytea
);
