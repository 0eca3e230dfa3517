CREATE TABLE message_definitions (
    type        smallint PRIMARY KEY,           -- laurel.notification.v1.MessageType
    body        bytea NOT NULL,                 -- laurel.notification.v1.MessageDefinition, without what is output
    since       timestamptz NOT NULL,           -- when it was switched on or off last
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);

-- Up to where the feed has been read for messages; one row.
CREATE TABLE message_following (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    cursor    text COLLATE "C"                  -- NULL: nothing is sent, and from what comes next on nothing is missed
);
INSERT INTO message_following DEFAULT VALUES;

-- What may become a message. Whoever takes one to look at it moves `look_time` to the end of a lease.
CREATE TABLE planned_messages (
    user_id   text COLLATE "C" NOT NULL,
    type      smallint NOT NULL,
    revision  bigint NOT NULL,                  -- moves whenever something is said of it
    plan      text NOT NULL,                    -- JSON of domain.messages.Plan
    look_time timestamptz NOT NULL,             -- when it may be due at the earliest
    PRIMARY KEY (user_id, type)
) WITH (fillfactor = 70);
CREATE INDEX planned_messages_by_look_time ON planned_messages (look_time);
CREATE SEQUENCE plan_revisions;

-- One message of a type on a date of the user: that it is sent at most once is a key.
CREATE TABLE sent_messages (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id uuid NOT NULL,
    user_id    text COLLATE "C" NOT NULL,
    type       smallint NOT NULL,
    local_date date NOT NULL,
    channel    smallint NOT NULL,               -- 0: none
    state      smallint NOT NULL,               -- laurel.notification.v1.MessageState
    detail     text NOT NULL,
    send_time  timestamptz NOT NULL,
    UNIQUE (user_id, type, local_date)
);
CREATE INDEX sent_messages_by_user ON sent_messages (user_id, number);
CREATE INDEX sent_messages_by_send_time ON sent_messages (send_time);

-- What is written goes in as arrays of these (docs/adr/0012).
CREATE TYPE planned_message_row AS (
    user_id   text,
    type      smallint,
    plan      text,
    look_time timestamptz
);
