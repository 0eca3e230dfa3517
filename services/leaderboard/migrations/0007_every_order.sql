-- Right in every order (RULES 2.5): points are kept by the entry and the date that they belong to, lengths of streaks by
-- period, and what an event contributes beside its value. Drafts are JSON by field names from now on; there is none while
-- nothing is under way, as this release demands.

ALTER TABLE request_log ADD COLUMN contribution_micros bigint, ADD COLUMN contribution_version bigint;

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

-- A correction stood under its own id, next to the entry that it corrected.
INSERT INTO earnings (user_id, points_system, local_date, entry_id, amount, reach_time)
SELECT user_id, key, local_date, origin_id, sum(amount),
       (array_agg(reach_time ORDER BY entry_id = origin_id DESC, entry_id))[1]
  FROM facts
 WHERE kind = 3
 GROUP BY user_id, key, local_date, origin_id;
-- Lengths were kept by the entry that told them, without the period. In runs that are open now scores stay as they are,
-- until the streak service says something about one of their periods.
DROP TABLE facts;

DROP TYPE fact_row;
DROP TYPE log_row;
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
