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
