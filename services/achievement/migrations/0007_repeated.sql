-- An achievement can be completed several times, each with its number.
ALTER TABLE completion_facts ADD COLUMN number integer NOT NULL DEFAULT 1;
ALTER TABLE live_completions
    ADD COLUMN number integer NOT NULL DEFAULT 1,
    DROP CONSTRAINT live_completions_pkey,
    ADD PRIMARY KEY (user_id, achievement, number);

CREATE TYPE completion_fact_row_3 AS (
    user_id       text,
    achievement   text,
    completion_id uuid,
    kind          smallint,
    cause_id      uuid,
    fact_time     timestamptz,
    entry_id      uuid,
    local_date    date,
    number        integer
);
CREATE TYPE live_completion_row_3 AS (
    user_id        text,
    achievement    text,
    completion_id  uuid,
    entry_id       uuid,
    complete_time  timestamptz,
    target         bigint,
    local_date     date,
    cause_position bigint,
    cause_time     timestamptz,
    cause_id       uuid,
    number         integer
);
CREATE TYPE live_completion_key_2 AS (
    user_id     text,
    achievement text,
    number      integer
);
DROP TYPE completion_fact_row_2;
DROP TYPE live_completion_row_2;
DROP TYPE live_completion_key;
