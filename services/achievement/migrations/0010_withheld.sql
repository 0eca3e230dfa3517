-- What an admin has taken from a user (RULES 4.1): nothing earns it until that is voided, and then it comes back.
ALTER TABLE users ADD COLUMN withheld text[];

CREATE TABLE withheld_completions (
    revocation_id  uuid NOT NULL,          -- the entry that took it away
    user_id        text COLLATE "C" NOT NULL,
    achievement    text COLLATE "C" NOT NULL,
    completion_id  uuid NOT NULL,
    entry_id       uuid NOT NULL,
    complete_time  timestamptz NOT NULL,
    target         bigint NOT NULL,
    local_date     date NOT NULL,
    cause_position bigint NOT NULL,
    cause_time     timestamptz NOT NULL,
    cause_id       uuid NOT NULL,
    number         integer NOT NULL,
    backdated      boolean NOT NULL,
    PRIMARY KEY (revocation_id, number)
);
CREATE INDEX withheld_completions_user ON withheld_completions (user_id);
