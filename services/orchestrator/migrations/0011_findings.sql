-- What an examination of the ledger found that services lack (laurel doctor), in the order in which it is to be sent again.
CREATE TABLE findings (
    entry_id   uuid NOT NULL,           -- of act 1, the write
    act        smallint NOT NULL,       -- 1 write definitions, 2 apply, 3 undo
    services   text[] COLLATE "C" NOT NULL,
    user_id    text COLLATE "C" NOT NULL,
    due_time   timestamptz NOT NULL,    -- when it was done first
    sequence   bigint NOT NULL,         -- among what one user did at that instant
    state      smallint NOT NULL DEFAULT 0, -- 0 open, 1 healed, 2 failed
    cause      text,                    -- why it failed
    PRIMARY KEY (entry_id, act)
);
CREATE INDEX findings_due ON findings (due_time, sequence, entry_id, act) WHERE state = 0;
CREATE INDEX findings_by_user ON findings (user_id);

CREATE TABLE examination (
    singleton        boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    stage            smallint NOT NULL,      -- orchestrator.v1.ExaminationStage
    start_time       timestamptz NOT NULL,
    after_entry_id   uuid NOT NULL,          -- how far the ledger was looked at
    examined_count   bigint NOT NULL,
    unfinished_count bigint NOT NULL,
    unknown_counts   bigint[] NOT NULL,      -- by service, in the order of the steps
    maintained_day   date,                   -- up to which services were brought while they are healed
    after_user_id    text COLLATE "C"        -- up to whom versions were raised; null before
);
