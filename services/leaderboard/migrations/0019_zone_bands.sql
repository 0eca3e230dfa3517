-- Cohorts of leagues that put users of nearby zones together.

ALTER TABLE seats ADD COLUMN utc_hour integer;           -- of the user's zone when active first; NULL: not asked for
ALTER TABLE cohorts ADD COLUMN band integer;             -- of zones, of the first who came; NULL: open to whoever comes
ALTER TABLE cohorts ADD COLUMN is_filling boolean NOT NULL DEFAULT false;  -- of a league with bands: has room
CREATE INDEX cohorts_filling ON cohorts (board, run_start, division) WHERE is_filling;

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
