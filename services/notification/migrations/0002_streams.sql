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
    update_time       timestamptz NOT NULL
);
