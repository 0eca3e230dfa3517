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
CREATE TYPE log_row AS (
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
    local_date   date
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
CREATE TYPE segment_row AS (
    board     text,
    run_start date,
    segment   text
);
CREATE TYPE fact_row AS (
    user_id    text,
    kind       smallint,
    key        text,
    local_date date,
    entry_id   uuid,
    origin_id  uuid,
    amount     bigint,
    reach_time timestamptz,
    version    bigint
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
