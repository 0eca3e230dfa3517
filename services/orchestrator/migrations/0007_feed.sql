-- Domain events (RULES 8), written by the statements that complete and settle (docs/adr/0014). A row for each entry.
CREATE TABLE domain_events (
    life        integer NOT NULL DEFAULT 1,
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    sequence    bigint NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    entry       bytea NOT NULL,
    effects     bytea NOT NULL,
    PRIMARY KEY (life, xid, sequence)
);
CREATE TABLE feed_lives (
    feed text COLLATE "C" PRIMARY KEY,
    life integer NOT NULL
);
INSERT INTO feed_lives (feed, life) VALUES ('domain_events', 1);

CREATE TYPE domain_event_row AS (
    entry_id uuid,
    sequence bigint,
    entry    bytea,
    effects  bytea
);

-- What the streak service's feed said until now is a life of its own there, before the first.
UPDATE feed_cursors SET cursor = '0.0.' || cursor WHERE feed = 'streak' AND cursor ~ '^[0-9]+$';
