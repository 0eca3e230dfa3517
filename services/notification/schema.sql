-- Where the feed of domain events has been followed to, by all who follow it together; one row.
CREATE TABLE followed (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    cursor    text COLLATE "C"                  -- NULL: nobody has followed yet
);
INSERT INTO followed DEFAULT VALUES;

-- Where the feed was at an instant: from there on it is read for those who want it again.
CREATE TABLE waypoints (
    told_time timestamptz PRIMARY KEY,
    cursor    text COLLATE "C" NOT NULL
);

CREATE TABLE webhook_endpoints (
    key               text COLLATE "C" PRIMARY KEY,
    endpoint_id       uuid NOT NULL UNIQUE,     -- another one when the key is used again
    body              bytea NOT NULL,           -- laurel.notification.v1.WebhookEndpoint, without what is output
    switch_off        smallint NOT NULL DEFAULT 0,
    switch_off_time   timestamptz,
    cursor            text COLLATE "C",         -- where it reads the feed for itself; NULL: with all
    failing_since     timestamptz,
    last_success_time timestamptz,
    create_time       timestamptz NOT NULL,
    update_time       timestamptz NOT NULL
);

-- Every change of an endpoint moves it: replicas then read them again.
CREATE TABLE webhook_version (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version   bigint NOT NULL
);
INSERT INTO webhook_version (version) VALUES (1);

CREATE TABLE webhook_secrets (
    secret_id   uuid PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoints (endpoint_id) ON DELETE CASCADE,
    secret      text NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz
);
CREATE INDEX webhook_secrets_by_endpoint ON webhook_secrets (endpoint_id, create_time);

-- What is to be sent or was sent, once for all endpoints that want it. Ids grow in the order of the feed.
CREATE SEQUENCE webhook_message_ids;
CREATE TABLE webhook_messages (
    message_id  bigint PRIMARY KEY,
    event_id    uuid NOT NULL,
    type        text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    body        text NOT NULL,
    create_time timestamptz NOT NULL
);
CREATE INDEX webhook_messages_by_event ON webhook_messages (event_id);

-- What waits to be delivered. A lane is what goes one after the other: a user's events, or one alone.
CREATE TABLE webhook_deliveries (
    endpoint_id        uuid NOT NULL,
    lane               text COLLATE "C" NOT NULL,
    message_id         bigint NOT NULL,
    attempt_count      integer NOT NULL DEFAULT 0,
    first_attempt_time timestamptz,
    PRIMARY KEY (endpoint_id, lane, message_id)
);

-- The lanes in which anything waits. Whoever takes one moves `due_time` to the end of its lease.
CREATE TABLE webhook_lanes (
    endpoint_id uuid NOT NULL,
    lane        text COLLATE "C" NOT NULL,
    due_time    timestamptz NOT NULL,
    claim_id    uuid,                           -- of who has taken it
    PRIMARY KEY (endpoint_id, lane)
) WITH (fillfactor = 70);
CREATE INDEX webhook_lanes_by_due_time ON webhook_lanes (endpoint_id, due_time);

CREATE TABLE webhook_attempts (
    attempt_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id    uuid NOT NULL,
    event_id       uuid NOT NULL,
    type           text COLLATE "C" NOT NULL,
    number         integer NOT NULL,
    attempt_time   timestamptz NOT NULL,
    latency_micros bigint NOT NULL,
    outcome        smallint NOT NULL,
    status_code    integer NOT NULL,
    detail         text NOT NULL
);
CREATE INDEX webhook_attempts_by_endpoint ON webhook_attempts (endpoint_id, attempt_id);
CREATE INDEX webhook_attempts_by_event ON webhook_attempts (event_id);
CREATE INDEX webhook_attempts_failed ON webhook_attempts (endpoint_id, attempt_id) WHERE outcome > 1;

-- Least intervals: what was let through lately, and what is held.
CREATE TABLE webhook_paces (
    endpoint_id  uuid NOT NULL,
    user_id      text COLLATE "C" NOT NULL,
    type         text COLLATE "C" NOT NULL,
    subject      text COLLATE "C" NOT NULL,
    last_time    timestamptz NOT NULL,
    release_time timestamptz NOT NULL,
    held_count   integer NOT NULL,
    first_event  text,                          -- JSON of what is held
    last_event   text,
    PRIMARY KEY (endpoint_id, user_id, type, subject)
);
CREATE INDEX webhook_paces_by_release_time ON webhook_paces (release_time);

CREATE TABLE event_streams (
    key               text COLLATE "C" PRIMARY KEY,
    stream_id         uuid NOT NULL UNIQUE,     -- another one when the key is used again
    body              bytea NOT NULL,           -- laurel.notification.v1.EventStream, without what is output
    revision          bigint NOT NULL,          -- moves with whatever an operator changes
    switched_off      boolean NOT NULL,
    cursor            text COLLATE "C" NOT NULL, -- up to where the feed has been published
    failing_since     timestamptz,
    failure           text NOT NULL DEFAULT '',
    last_publish_time timestamptz,
    published_count   bigint NOT NULL DEFAULT 0,
    create_time       timestamptz NOT NULL,
    update_time       timestamptz NOT NULL,
    behind_since      timestamptz               -- since when it has not been where the feed is
);

CREATE TABLE contacts (
    user_id     text COLLATE "C" PRIMARY KEY,
    body        bytea NOT NULL,                 -- laurel.notification.v1.Contact, without what is output
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);

-- A token is one device, whoever uses it: it has one user at a time.
CREATE TABLE devices (
    provider    smallint NOT NULL,              -- laurel.notification.v1.PushProvider
    token       text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL REFERENCES contacts (user_id) ON DELETE CASCADE,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (provider, token)
);
CREATE INDEX devices_by_user ON devices (user_id, create_time);

-- What Expo has taken, of which it says later whether it was brought. A ticket goes with its device.
CREATE TABLE push_tickets (
    ticket_id   text COLLATE "C" PRIMARY KEY,
    provider    smallint NOT NULL,              -- laurel.notification.v1.PushProvider
    token       text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,           -- of the message
    ask_time    timestamptz NOT NULL,           -- when it was last asked about; before: of the message
    FOREIGN KEY (provider, token) REFERENCES devices (provider, token) ON DELETE CASCADE
);
CREATE INDEX push_tickets_by_device ON push_tickets (provider, token);
CREATE INDEX push_tickets_by_ask_time ON push_tickets (ask_time);

-- With what the links in e-mails are signed, in all replicas alike and for as long as e-mails are kept: 244 random bits.
CREATE TABLE link_secret (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    secret    text NOT NULL
);
INSERT INTO link_secret (secret) VALUES (gen_random_uuid()::text || gen_random_uuid()::text);

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

-- Up to which end of theirs the streaks have been looked for of which users are reminded.
CREATE TABLE reminded_streaks (
    streak      text COLLATE "C" PRIMARY KEY,
    found_until timestamptz NOT NULL
);

-- What was done by hand (RULES 9.4): written in the transaction that decides it, never changed.
CREATE TABLE admin_operations (
    sequence    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    create_time timestamptz NOT NULL,
    method      text COLLATE "C" NOT NULL,
    subject     text COLLATE "C" NOT NULL,      -- what it was done to: kind/key
    actor       text NOT NULL,
    peer        text NOT NULL,
    reason      text NOT NULL,
    fields      bytea[] NOT NULL                -- common.v1.FieldChange: old and new
);
CREATE INDEX admin_operations_by_subject ON admin_operations (subject, sequence);

CREATE TABLE mutation_log (
    method      text COLLATE "C" NOT NULL,
    request_id  text COLLATE "C" NOT NULL,
    digest      bytea NOT NULL,
    response    bytea NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (method, request_id)
);

-- What is written goes in as arrays of these (docs/adr/0012).
CREATE TYPE webhook_message_row AS (
    message_id  bigint,
    event_id    uuid,
    type        text,
    user_id     text,
    body        text,
    create_time timestamptz
);
CREATE TYPE webhook_delivery_row AS (
    endpoint_id uuid,
    lane        text,
    message_id  bigint
);
CREATE TYPE webhook_lane_row AS (
    endpoint_id uuid,
    lane        text,
    claim_id    uuid,
    due_time    timestamptz
);
CREATE TYPE webhook_failure_row AS (
    endpoint_id        uuid,
    lane               text,
    message_id         bigint,
    attempt_count      integer,
    first_attempt_time timestamptz
);
CREATE TYPE webhook_attempt_row AS (
    endpoint_id    uuid,
    event_id       uuid,
    type           text,
    number         integer,
    attempt_time   timestamptz,
    latency_micros bigint,
    outcome        smallint,
    status_code    integer,
    detail         text
);
CREATE TYPE webhook_pace_key AS (
    endpoint_id uuid,
    user_id     text,
    type        text,
    subject     text
);
CREATE TYPE webhook_pace_row AS (
    endpoint_id  uuid,
    user_id      text,
    type         text,
    subject      text,
    last_time    timestamptz,
    release_time timestamptz,
    held_count   integer,
    first_event  text,
    last_event   text
);
CREATE TYPE planned_message_row AS (
    user_id   text,
    type      smallint,
    plan      text,
    look_time timestamptz
);
