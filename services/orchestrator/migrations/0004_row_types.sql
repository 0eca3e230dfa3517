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
CREATE TYPE user_row AS (
    user_id     text,
    guard       bigint,
    version     bigint,
    entry_count bigint,
    name        text,
    name_time   timestamptz,
    time_zone   text,
    zone_time   timestamptz,
    attributes  jsonb,
    create_time timestamptz
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
CREATE TYPE unique_value_row AS (
    user_id text,
    metric  text,
    value   text
);
CREATE TYPE entry_key_row AS (
    key_id   uuid,
    entry_id uuid
);
