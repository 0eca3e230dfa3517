-- Runs of which it has been told that they began. Those that are under way are not told of now.

CREATE TABLE run_starts (
    board     text COLLATE "C" NOT NULL,
    run_start date NOT NULL,
    PRIMARY KEY (board, run_start)
);
INSERT INTO run_starts SELECT board, start_date FROM runs;
