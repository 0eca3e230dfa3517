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
