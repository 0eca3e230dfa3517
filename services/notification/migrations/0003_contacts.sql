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

-- With what the links in e-mails are signed, in all replicas alike and for as long as e-mails are kept: 244 random bits.
CREATE TABLE link_secret (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    secret    text NOT NULL
);
INSERT INTO link_secret (secret) VALUES (gen_random_uuid()::text || gen_random_uuid()::text);
