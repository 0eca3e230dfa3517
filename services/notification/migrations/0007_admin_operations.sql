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
