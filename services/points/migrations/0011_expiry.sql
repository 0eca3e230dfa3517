-- The first local date on which what an award left is gone; NULL: never.
ALTER TABLE awards ADD COLUMN expire_date date;

-- Replicas of the release before go on writing the type of before.
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
