-- The first members of segments as they were when it was looked last, to find who was overtaken since.

CREATE TABLE tracked_tops (
    board     text COLLATE "C" NOT NULL,
    run_start date NOT NULL,
    segment   text COLLATE "C" NOT NULL,
    look_time timestamptz NOT NULL,
    members   text,                        -- JSON by user: rank and score; NULL before the first look
    PRIMARY KEY (board, run_start, segment)
);

ALTER TABLE rank_events ADD COLUMN passed boolean NOT NULL DEFAULT false;
