-- How often segments that everybody had left were removed from a run: what was decided before has to be decided again.

ALTER TABLE runs ADD COLUMN cleanings integer NOT NULL DEFAULT 0;

CREATE TYPE run_key_2 AS (
    board      text,
    start_date date,
    cleanings  integer
);
