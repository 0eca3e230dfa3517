-- What definitions were: a closed period stays as it was judged. And how far amnesties have come.
CREATE TABLE definition_history (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    body        bytea,                  -- null: there was none any more
    change_time timestamptz NOT NULL
);
INSERT INTO definition_history (kind, key, body, change_time)
SELECT kind, key, body, create_time FROM definitions ORDER BY kind, key;

CREATE TABLE amnesty_passes (
    number          bigint PRIMARY KEY,             -- of the change in definition_history
    streak          text COLLATE "C" NOT NULL,      -- up to which period it has come
    start_date      date NOT NULL,
    user_id         text COLLATE "C" NOT NULL,
    judged_count    bigint NOT NULL,
    saved_count     bigint NOT NULL,
    refunded_count  bigint NOT NULL,
    finish_time     timestamptz
);

-- In the order in which an amnesty goes over them.
CREATE INDEX periods_at_stake ON periods (streak, start_date, user_id) WHERE status >= 6;
DROP INDEX periods_ends;
