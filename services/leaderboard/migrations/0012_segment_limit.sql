-- Whom a board has no segment for, because it has as many as it may.

ALTER TABLE scores ADD COLUMN beyond boolean NOT NULL DEFAULT false;
CREATE INDEX scores_beyond ON scores (board, run_start) WHERE beyond;
ALTER TABLE runs ADD COLUMN beyond_count bigint NOT NULL DEFAULT 0;

CREATE TYPE score_row_2 AS (
    user_id        text,
    board          text,
    run_start      date,
    segment        text,
    score          bigint,
    order_score    bigint,
    reach_time     timestamptz,
    entry_id       uuid,
    source_version bigint,
    version        bigint,
    beyond         boolean
);
