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
