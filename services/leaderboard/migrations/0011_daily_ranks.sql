-- Ranks at the end of each UTC date, for boards that keep them.

CREATE TABLE daily_ranks (
    board     text COLLATE "C" NOT NULL,
    run_start date NOT NULL,
    segment   text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    user_id   text COLLATE "C" NOT NULL,
    rank      bigint NOT NULL,
    score     bigint NOT NULL,
    PRIMARY KEY (board, run_start, segment, day, user_id)
);
CREATE INDEX daily_ranks_user ON daily_ranks (user_id, board, segment, day);

-- The dates that were kept.
CREATE TABLE kept_days (
    board text COLLATE "C" NOT NULL,
    day   date NOT NULL,
    PRIMARY KEY (board, day)
);
