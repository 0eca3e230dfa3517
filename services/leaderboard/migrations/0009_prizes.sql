-- Prizes: what is still to be given for a run that was archived, and what was given.

-- One row for each run that was archived with something to be done after it: how far that has come.
CREATE TABLE endings (
    board        text COLLATE "C" NOT NULL,
    run_start    date NOT NULL,
    end_time     timestamptz NOT NULL,     -- when the run was final
    prizes       text NOT NULL,            -- JSON by field names, as they were defined then
    history      boolean NOT NULL,         -- whether an import of history archived it
    last_segment text COLLATE "C" NOT NULL DEFAULT '',
    last_ordinal bigint NOT NULL DEFAULT 0,
    done         boolean NOT NULL DEFAULT false,
    PRIMARY KEY (board, run_start)
);
CREATE INDEX endings_under_way ON endings (end_time, board, run_start) WHERE NOT done;

CREATE TABLE prizes (
    board     text COLLATE "C" NOT NULL,
    run_start date NOT NULL,
    segment   text COLLATE "C" NOT NULL,
    ordinal   bigint NOT NULL,
    prize     text COLLATE "C" NOT NULL,
    user_id   text COLLATE "C" NOT NULL,
    rank      bigint NOT NULL,
    entry_id  uuid NOT NULL,               -- of the ledger
    PRIMARY KEY (board, run_start, segment, ordinal, prize)
);
CREATE INDEX prizes_user ON prizes (user_id, board, run_start);

CREATE TYPE prize_row AS (
    board     text,
    run_start date,
    segment   text,
    ordinal   bigint,
    prize     text,
    user_id   text,
    rank      bigint,
    entry_id  uuid
);
