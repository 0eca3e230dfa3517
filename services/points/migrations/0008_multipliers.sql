-- What multiplies an award: nothing, for all there is until now.
ALTER TABLE request_log ADD COLUMN boosts text[] COLLATE "C";
ALTER TABLE awards ADD COLUMN multiplied_amount bigint;
ALTER TABLE awards ADD COLUMN multiplier double precision;
ALTER TABLE awards ADD COLUMN boosts text[] COLLATE "C";
ALTER TABLE awards ADD COLUMN level text COLLATE "C";

-- Replicas of the release before go on writing the types of before.
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
